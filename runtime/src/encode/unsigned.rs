//! Signed activations as unsigned ones, for ONNX Runtime on x86-64.
//!
//! Its int8 kernels there want unsigned activations; of a signed file it leaves many products in
//! fp32. A bundle's file is signed, because TensorRT takes nothing else. Shifting zero point and
//! numbers of an activation by 128 changes no real value: `(q + 128) - (z + 128) = q - z`, and the
//! range that saturates is the same.

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

/// The distance between the two number formats.
const SHIFT: i32 = 128;

/// Added to the name of a zero point, for the shifted one.
const SUFFIX: &str = "_unsigned";

/// The same file with unsigned activations.
///
/// # Errors
/// It is no ONNX file.
pub(super) fn activations(onnx: &[u8]) -> Result<Vec<u8>, String> {
    let mut model = ModelProto::decode(onnx).map_err(|e| e.to_string())?;
    let graph = model.graph.as_mut().ok_or("expected a graph, found none")?;
    shift(graph);
    Ok(model.encode_to_vec())
}

fn shift(graph: &mut GraphProto) {
    let zero_points: HashMap<String, TensorProto> = graph
        .initializer
        .iter()
        .filter(|t| t.data_type == i32::from(DataType::Int8))
        .map(|t| (t.name.clone(), t.clone()))
        .collect();
    let shifted = shiftable(graph, &zero_points);
    let mut made = HashSet::new();
    for node in &mut graph.node {
        // A quantised value is named by the output of one kind of node and the input of the other.
        let value = match node.op_type.as_str() {
            "QuantizeLinear" => node.output.first(),
            "DequantizeLinear" => node.input.first(),
            _ => None,
        };
        if !value.is_some_and(|value| shifted.contains(value)) {
            continue;
        }
        let old = node.input[2].clone();
        node.input[2] = format!("{old}{SUFFIX}");
        if made.insert(old.clone()) {
            graph.initializer.push(unsigned(&zero_points[&old]));
        }
    }
    // What was noted of these values says that they are signed; the library finds out by itself.
    graph.value_info.retain(|value| !shifted.contains(&value.name));
}

/// Quantised activations with a constant int8 zero point that only dequantising nodes read, all with
/// that zero point.
fn shiftable(graph: &GraphProto, zero_points: &HashMap<String, TensorProto>) -> HashSet<String> {
    let outputs: HashSet<&String> = graph.output.iter().map(|o| &o.name).collect();
    let zero_point =
        |node: &NodeProto| node.input.get(2).filter(|z| zero_points.contains_key(*z)).cloned();
    let mut readers: HashMap<&String, Vec<&NodeProto>> = HashMap::new();
    for node in &graph.node {
        for input in &node.input {
            readers.entry(input).or_default().push(node);
        }
    }
    let fits = |node: &&NodeProto| {
        let (Some(value), Some(zero)) = (node.output.first(), zero_point(node)) else {
            return false;
        };
        let alike = |reader: &&NodeProto| {
            reader.op_type == "DequantizeLinear" && zero_point(reader).as_ref() == Some(&zero)
        };
        !outputs.contains(value) && readers.get(value).is_some_and(|all| all.iter().all(alike))
    };
    let quantised = graph.node.iter().filter(|n| n.op_type == "QuantizeLinear").filter(fits);
    quantised.map(|node| node.output[0].clone()).collect()
}

fn unsigned(zero_point: &TensorProto) -> TensorProto {
    let signed: Vec<i32> = if zero_point.raw_data.is_empty() {
        zero_point.int32_data.clone()
    } else {
        zero_point.raw_data.iter().map(|b| i32::from(b.cast_signed())).collect()
    };
    TensorProto {
        name: format!("{}{SUFFIX}", zero_point.name),
        dims: zero_point.dims.clone(),
        data_type: DataType::Uint8.into(),
        int32_data: signed.iter().map(|z| z + SHIFT).collect(),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::ValueInfoProto;

    fn node(kind: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: kind.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn int8(name: &str, values: &[i8]) -> TensorProto {
        TensorProto {
            name: name.into(),
            data_type: DataType::Int8.into(),
            raw_data: values.iter().map(|v| v.cast_unsigned()).collect(),
            ..TensorProto::default()
        }
    }

    fn shifted(nodes: Vec<NodeProto>) -> GraphProto {
        let mut graph = GraphProto {
            node: nodes,
            initializer: vec![int8("zero", &[-3]), int8("weight", &[1, 2])],
            value_info: vec![ValueInfoProto { name: "q".into(), ..ValueInfoProto::default() }],
            output: vec![ValueInfoProto { name: "out".into(), ..ValueInfoProto::default() }],
            ..GraphProto::default()
        };
        shift(&mut graph);
        graph
    }

    #[test]
    fn an_activations_zero_point_is_shifted_and_a_weights_is_not() {
        let graph = shifted(vec![
            node("QuantizeLinear", &["x", "scale", "zero"], "q"),
            node("DequantizeLinear", &["q", "scale", "zero"], "y"),
            node("DequantizeLinear", &["weight", "scale", "zero"], "w"),
        ]);
        let third: Vec<&str> = graph.node.iter().map(|n| n.input[2].as_str()).collect();
        assert_eq!(third, ["zero_unsigned", "zero_unsigned", "zero"]);
        let zero = graph.initializer.iter().find(|t| t.name == "zero_unsigned").expect("made");
        assert_eq!((zero.int32_data.as_slice(), zero.data_type), (&[125][..], 2));
        assert!(graph.value_info.is_empty());
    }

    #[test]
    fn a_value_that_anything_else_reads_stays_as_it_is() {
        for other in
            [node("Reshape", &["q", "shape"], "r"), node("DequantizeLinear", &["q", "scale"], "r")]
        {
            let graph = shifted(vec![
                node("QuantizeLinear", &["x", "scale", "zero"], "q"),
                node("DequantizeLinear", &["q", "scale", "zero"], "y"),
                other,
            ]);
            assert_eq!(graph.node[0].input[2], "zero");
            assert_eq!(graph.value_info.len(), 1);
        }
        let graph = shifted(vec![node("QuantizeLinear", &["x", "scale", "zero"], "out")]);
        assert_eq!(graph.node[0].input[2], "zero", "an output of the graph");
    }

    #[test]
    fn what_is_no_onnx_file_is_an_error() {
        assert!(activations(b"\xff\xff\xff").is_err());
        assert_eq!(activations(b"").expect_err("no graph"), "expected a graph, found none");
    }
}
