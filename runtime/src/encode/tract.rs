//! The engine that is compiled in: tract, on the CPU, in fp32.

use std::sync::Arc;

use rayon::ThreadPoolBuilder;
use tract_linalg::multithread::Executor;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::eval;

use super::{EncodeError, Encoder, Engine, Nodes, Tokens, strip, tokens_from};
use crate::bundle::Bundle;
use crate::preprocess::ModelInput;

/// Version of tract that is compiled in (pinned in the workspace manifest).
const LIBRARY: &str = "0.23.9";

/// tract on the bundle's encoder, quantisation stripped.
pub(super) struct Tract {
    plan: Arc<TypedRunnableModel>,
    shape: [usize; 4],
    expected: [usize; 2],
    engine: Engine,
    nodes: Nodes,
}

impl Tract {
    /// `threads` compute one image; how many there are does not change a bit of the result.
    pub(super) fn start(bundle: &Bundle, threads: usize) -> Result<Self, EncodeError> {
        let input = &bundle.manifest.input;
        let shape = [1, input.channels, input.height, input.width];
        let plan = plan(&bundle.encoder, shape, threads)
            .map_err(|e| EncodeError::Load { engine: "tract", text: format!("{e:#}") })?;
        let engine = Engine {
            backend: "tract".into(),
            provider: "cpu".into(),
            precision: "fp32".into(),
            library: Some(LIBRARY.into()),
            node_share: Some(1.0),
        };
        // Whatever it loads it runs.
        let nodes = Nodes([("cpu".to_owned(), plan.model().nodes().len())].into());
        Ok(Self {
            plan,
            shape,
            expected: [bundle.manifest.encoder.n_tokens, bundle.manifest.encoder.d_token],
            engine,
            nodes,
        })
    }
}

impl Encoder for Tract {
    fn encode(&mut self, input: &ModelInput) -> Result<Tokens, EncodeError> {
        let fail = |e: TractError| EncodeError::Run { engine: "tract", text: format!("{e:#}") };
        let tensor = Tensor::from_shape(&self.shape, &input.values).map_err(fail)?;
        let outputs = self.run(tvec!(tensor.into())).map_err(fail)?;
        let output = outputs.first().ok_or_else(|| EncodeError::Run {
            engine: "tract",
            text: "expected one output, found none".into(),
        })?;
        let values = output.to_plain_array_view::<f32>().map_err(fail)?;
        let values = values.as_slice().ok_or_else(|| EncodeError::Run {
            engine: "tract",
            text: "expected a contiguous output, found a strided one".into(),
        })?;
        tokens_from(self.expected, output.shape(), values)
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn nodes(&self) -> &Nodes {
        &self.nodes
    }
}

impl Tract {
    /// What `plan.run` does, with clean registers behind every node.
    fn run(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.plan.spawn()?.run_plan_with_eval(inputs, |context, state, node, inputs| {
            let outputs = eval(context, state, node, inputs);
            leave_avx();
            outputs
        })
    }
}

/// tract's kernels for x86-64 leave the upper halves of the vector registers in use. While they are,
/// every SSE instruction of the thread waits for them, and all that is not compiled for AVX is SSE:
/// most of tract, and all of ours: head and SAE take three times as long (`docs/benchmarks.md`).
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "no safe wrapper; it forgets what nobody reads")]
fn leave_avx() {
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has the instruction, and by the calling convention no value is kept
        // in these halves across a call.
        unsafe { std::arch::x86_64::_mm256_zeroupper() };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn leave_avx() {}

/// tract never sees a quantise/dequantise pair: it would run them slower than fp32, and a Softmax
/// between them comes out silently wrong.
fn plan(onnx: &[u8], shape: [usize; 4], threads: usize) -> TractResult<Arc<TypedRunnableModel>> {
    // A dynamic batch leaves a symbol in the value_info that clashes with our fixed batch of one.
    let reader = tract_onnx::onnx().with_ignore_value_info(true);
    let mut proto = reader.proto_model_for_read(&mut &onnx[..])?;
    strip::quantisation(&mut proto)?;
    reader
        .model_for_proto_model(&proto)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable_with_options(&RunOptions {
            executor: Some(executor(threads)),
            ..Default::default()
        })
}

/// Where the system gives no more threads the reader's own computes alone, to the same bits: slower
/// beats not reading.
fn executor(threads: usize) -> Executor {
    if threads < 2 {
        // Without a pool no work is handed over, and none of that is paid for.
        return Executor::SingleThread;
    }
    let name = |n| format!("tract-{n}");
    match ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build() {
        Ok(pool) => Executor::MultiThread(Arc::new(pool)),
        Err(error) => {
            tracing::warn!(threads, %error, "expected threads for tract, found none: one computes");
            Executor::SingleThread
        }
    }
}
