//! Numbers of a bundle: matrices in fp32 or int8, with one fixed order of summation.

use super::BundleError;

/// A matrix of finite numbers, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// `[rows, columns]`, every value finite.
    pub values: Vec<f32>,
}

impl Matrix {
    /// One row.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.columns]
    }
}

/// A matrix as it is stored: fp32, or int8 with one scale per row.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// 32-bit floating point.
    F32(Matrix),
    /// `real[i, j] = values[i, j] * scale[i]`.
    Int8 {
        /// Columns.
        columns: usize,
        /// `[rows, columns]`.
        values: Vec<i8>,
        /// `[rows]`, finite and > 0.
        scale: Vec<f32>,
    },
}

impl Weights {
    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::F32(matrix) => matrix.rows,
            Self::Int8 { scale, .. } => scale.len(),
        }
    }

    /// Inner product of row `index` with `x`, in the fixed order of [`dot`].
    #[must_use]
    pub fn row_dot(&self, index: usize, x: &[f32]) -> f32 {
        match self {
            Self::F32(matrix) => dot(matrix.row(index), x),
            Self::Int8 { columns, values, scale } => {
                dot_of(&values[index * columns..][..*columns], x) * scale[index]
            }
        }
    }

    /// One row as real numbers.
    #[must_use]
    pub fn row(&self, index: usize) -> Vec<f32> {
        match self {
            Self::F32(matrix) => matrix.row(index).to_vec(),
            Self::Int8 { columns, values, scale } => {
                let row = &values[index * columns..][..*columns];
                row.iter().map(|&q| f32::from(q) * scale[index]).collect()
            }
        }
    }

    /// The same weights with their rows in another order: row `i` is the old row `order[i]`.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> Self {
        match self {
            Self::F32(matrix) => {
                let values = order.iter().flat_map(|&i| matrix.row(i).to_vec()).collect();
                Self::F32(Matrix { values, ..*matrix })
            }
            Self::Int8 { columns, values, scale } => Self::Int8 {
                columns: *columns,
                values: order
                    .iter()
                    .flat_map(|&i| values[i * columns..][..*columns].to_vec())
                    .collect(),
                scale: order.iter().map(|&i| scale[i]).collect(),
            },
        }
    }
}

/// Partial sums that run beside each other: eight fp32 lanes fill a 256-bit register.
const LANES: usize = 8;

/// Inner product in one fixed order of summation, so that its bits never depend on the machine.
///
/// Lane `l` sums the products at positions `l, l + 8, ...`; the lanes are then added pairwise.
/// The compiler may vectorise this but never reorders it.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_of(a, b)
}

/// [`dot`] with weights of either form; of int8 ones the scale is left out.
fn dot_of<T: Copy + Into<f32>>(a: &[T], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = blocks_a.remainder().iter().zip(blocks_b.remainder());
    for (x, y) in blocks_a.zip(blocks_b) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += (*x).into() * y;
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(tail) {
        *lane += (*x).into() * y;
    }
    pairwise(lanes)
}

fn pairwise(l: [f32; LANES]) -> f32 {
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

/// One safetensors file of a bundle, read tensor by tensor with its shape and finiteness checked.
pub(super) struct TensorFile<'a> {
    file: &'a str,
    tensors: safetensors::SafeTensors<'a>,
    taken: Vec<&'static str>,
}

impl<'a> TensorFile<'a> {
    pub(super) fn open(file: &'a str, bytes: &'a [u8]) -> Result<Self, BundleError> {
        let tensors = safetensors::SafeTensors::deserialize(bytes)
            .map_err(|e| BundleError::Syntax { file: file.into(), text: e.to_string() })?;
        Ok(Self { file, tensors, taken: Vec::new() })
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.tensors.tensor(tensor).is_ok()
    }

    /// An fp32 tensor of exactly `shape`, every value finite.
    pub(super) fn f32(
        &mut self,
        tensor: &'static str,
        shape: &[usize],
    ) -> Result<Vec<f32>, BundleError> {
        let bytes = self.bytes(tensor, shape, safetensors::Dtype::F32)?;
        let (words, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|b| f32::from_le_bytes(*b)).collect();
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(at) => {
                Err(self.value(tensor, "finite numbers", format!("{} at index {at}", values[at])))
            }
        }
    }

    /// An fp32 matrix of exactly `[rows, columns]`.
    pub(super) fn matrix(
        &mut self,
        tensor: &'static str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, BundleError> {
        Ok(Matrix { rows, columns, values: self.f32(tensor, &[rows, columns])? })
    }

    /// An int8 tensor of exactly `shape`.
    pub(super) fn int8(
        &mut self,
        tensor: &'static str,
        shape: &[usize],
    ) -> Result<Vec<i8>, BundleError> {
        let bytes = self.bytes(tensor, shape, safetensors::Dtype::I8)?;
        Ok(bytes.iter().map(|b| b.cast_signed()).collect())
    }

    /// An unsigned 8-bit tensor of exactly `shape`.
    pub(super) fn uint8(
        &mut self,
        tensor: &'static str,
        shape: &[usize],
    ) -> Result<Vec<u8>, BundleError> {
        Ok(self.bytes(tensor, shape, safetensors::Dtype::U8)?.to_vec())
    }

    /// Refuses tensors that nobody asked for.
    pub(super) fn finish(self) -> Result<(), BundleError> {
        let unknown = self.tensors.names().into_iter().find(|n| !self.taken.contains(n));
        match unknown {
            None => Ok(()),
            Some(name) => Err(BundleError::Value {
                file: self.file.into(),
                expected: format!("only the tensors {}", self.taken.join(", ")),
                found: format!("also {name}"),
            }),
        }
    }

    /// An error about one tensor's values.
    pub(super) fn value(&self, tensor: &str, expected: &str, found: String) -> BundleError {
        BundleError::Value {
            file: self.file.into(),
            expected: format!("{tensor}: {expected}"),
            found,
        }
    }

    fn bytes(
        &mut self,
        tensor: &'static str,
        shape: &[usize],
        dtype: safetensors::Dtype,
    ) -> Result<&'a [u8], BundleError> {
        self.taken.push(tensor);
        let error = |found: String| BundleError::Shape {
            file: self.file.into(),
            tensor: tensor.into(),
            expected: format!("{dtype:?} {shape:?}"),
            found,
        };
        let view = self.tensors.tensor(tensor).map_err(|_| error("no such tensor".into()))?;
        if view.shape() != shape || view.dtype() != dtype {
            return Err(error(format!("{:?} {:?}", view.dtype(), view.shape())));
        }
        Ok(view.data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_rows_give_the_same_product_as_their_real_numbers() {
        let columns = 19;
        let values: Vec<i8> =
            (0..2 * columns).map(|i| i8::try_from(i * 7 % 247 - 120).expect("in range")).collect();
        let weights = Weights::Int8 { columns: 19, values, scale: vec![0.5, 0.01] };
        let x: Vec<f32> = (0..19_u8).map(|i| (f32::from(i) * 0.37).sin()).collect();
        for row in 0..2 {
            let real = dot(&weights.row(row), &x);
            assert!((weights.row_dot(row, &x) - real).abs() <= 1e-4 * real.abs().max(1.0));
        }
    }

    #[test]
    fn permuted_rows_are_the_old_rows() {
        let matrix = Matrix { rows: 3, columns: 2, values: vec![1., 2., 3., 4., 5., 6.] };
        let weights = Weights::F32(matrix).permuted(&[2, 0, 1]);
        assert_eq!(weights.row(0), [5., 6.]);
        assert_eq!(weights.row(1), [1., 2.]);
    }
}
