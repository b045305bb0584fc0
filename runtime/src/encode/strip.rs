//! Takes the quantise/dequantise pairs out of an ONNX graph, leaving fp32.
//!
//! A dequantised constant becomes an fp32 constant; a pair around an activation is bypassed.
//! That is right only because the workshop quantises nothing but Conv, MatMul and Gemm with
//! signed symmetric numbers: no activation function was absorbed into a zero point.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::{anyhow, bail, ensure};

/// Strips every QuantizeLinear and DequantizeLinear of `model`.
pub(super) fn quantisation(model: &mut ModelProto) -> TractResult<()> {
    let Some(graph) = model.graph.as_mut() else { bail!("expected a graph, found none") };
    let constants: HashMap<String, TensorProto> =
        graph.initializer.iter().map(|t| (t.name.clone(), t.clone())).collect();
    let quantised: HashMap<String, String> = graph
        .node
        .iter()
        .filter(|n| n.op_type == "QuantizeLinear" && n.input.len() >= 2 && !n.output.is_empty())
        .map(|n| (n.output[0].clone(), n.input[0].clone()))
        .collect();
    let mut bypassed: HashMap<String, String> = HashMap::new();
    let mut real = Vec::new();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        match node.op_type.as_str() {
            "QuantizeLinear" => {}
            "DequantizeLinear" => {
                ensure!(
                    node.input.len() >= 2 && !node.output.is_empty(),
                    "DequantizeLinear {} lacks inputs",
                    node.name
                );
                if let Some(source) = quantised.get(&node.input[0]) {
                    bypassed.insert(node.output[0].clone(), source.clone());
                } else if let Some(constant) = constants.get(&node.input[0]) {
                    real.push(dequantised(&node, constant, &constants)?);
                } else {
                    bail!(
                        "DequantizeLinear {} reads {}, neither a constant nor quantised here",
                        node.name,
                        node.input[0]
                    );
                }
            }
            _ => kept.push(node),
        }
    }
    graph.node = kept;
    graph.initializer.extend(real);
    rewire(graph, &bypassed);
    Ok(())
}

/// Points every reader of a bypassed value at its source.
fn rewire(graph: &mut GraphProto, bypassed: &HashMap<String, String>) {
    let source = |name: &String| {
        let mut name = name;
        while let Some(before) = bypassed.get(name) {
            name = before;
        }
        name.clone()
    };
    for node in &mut graph.node {
        for input in &mut node.input {
            *input = source(input);
        }
    }
    // An output of the graph keeps its name.
    for output in &graph.output {
        if bypassed.contains_key(&output.name) {
            graph.node.push(NodeProto {
                op_type: "Identity".into(),
                name: format!("{}_stripped", output.name),
                input: vec![source(&output.name)],
                output: vec![output.name.clone()],
                ..NodeProto::default()
            });
        }
    }
}

/// ONNX DequantizeLinear: `y = (x - x_zero_point) * x_scale`, per tensor or per `axis`.
fn dequantised(
    node: &NodeProto,
    constant: &TensorProto,
    constants: &HashMap<String, TensorProto>,
) -> TractResult<TensorProto> {
    let parameter = |index: usize| {
        node.input.get(index).filter(|name| !name.is_empty()).map(|name| {
            constants.get(name).ok_or_else(|| anyhow!("{}: {name} is not a constant", node.name))
        })
    };
    let scale = parameter(1).ok_or_else(|| anyhow!("{}: no scale", node.name))??;
    let scale = numbers(scale)?;
    let zero = parameter(2).transpose()?.map(numbers).transpose()?;
    let zero = zero.unwrap_or_else(|| vec![0.0; scale.len()]);
    ensure!(
        !scale.is_empty() && zero.len() == scale.len(),
        "{}: {} scales, {} zero points",
        node.name,
        scale.len(),
        zero.len()
    );
    let axis = node.attribute.iter().find(|a| a.name == "axis").map_or(1, |a| a.i);
    let dims = constant.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>()?;
    let axis = usize::try_from(if axis < 0 { axis + i64::try_from(dims.len())? } else { axis })?;
    let inner: usize = dims.iter().skip(axis + 1).product();
    let along = dims.get(axis).copied().unwrap_or(1);
    ensure!(
        scale.len() == 1 || scale.len() == along,
        "{}: {} scales for {along} channels",
        node.name,
        scale.len()
    );
    let channel = |at: usize| if scale.len() == 1 { 0 } else { at / inner % along };
    let values = numbers(constant)?;
    let raw_data = values
        .iter()
        .enumerate()
        .flat_map(|(at, x)| ((x - zero[channel(at)]) * scale[channel(at)]).to_le_bytes())
        .collect();
    Ok(TensorProto {
        name: node.output[0].clone(),
        dims: constant.dims.clone(),
        data_type: DataType::Float.into(),
        raw_data,
        ..TensorProto::default()
    })
}

/// A constant's values as fp32; int8, uint8, int32 (quantised biases) and float.
#[expect(
    clippy::cast_precision_loss,
    reason = "int32 biases are far below 2^24 quanta or lose less than one"
)]
#[expect(clippy::wildcard_enum_match_arm, reason = "ONNX has two dozen types and adds more")]
fn numbers(tensor: &TensorProto) -> TractResult<Vec<f32>> {
    let raw = &tensor.raw_data;
    let kind = DataType::try_from(tensor.data_type)?;
    let words = || raw.as_chunks::<4>().0.iter();
    Ok(match kind {
        DataType::Float if raw.is_empty() => tensor.float_data.clone(),
        DataType::Float => words().map(|b| f32::from_le_bytes(*b)).collect(),
        DataType::Int8 | DataType::Uint8 | DataType::Int32 if raw.is_empty() => {
            tensor.int32_data.iter().map(|&q| q as f32).collect()
        }
        DataType::Int8 => raw.iter().map(|b| f32::from(b.cast_signed())).collect(),
        DataType::Uint8 => raw.iter().map(|&b| f32::from(b)).collect(),
        DataType::Int32 => words().map(|b| i32::from_le_bytes(*b) as f32).collect(),
        other => bail!("{}: expected int8, uint8, int32 or float, found {other:?}", tensor.name),
    })
}
