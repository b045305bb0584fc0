//! How many features an image takes, and how often each fires.

use serde::Serialize;

use super::bootstrap::quantile;
use crate::codes::Codes;
use crate::measure::{DENSE, RARE, whole};

/// Figures of codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sparsity {
    /// Active features of an image: mean, 5th and 95th percentile.
    pub l0: [f64; 3],
    /// The mean as a share of the features (MedSAE's "L0 rate").
    pub l0_rate: f64,
    /// Share of the features that never fire here.
    pub dead: f64,
    /// Share that fires on fewer than one image of 10,000, dead ones included.
    pub rare: f64,
    /// Share that fires on more than one image of 10.
    pub dense: f64,
    /// Share of all values that dense features hold.
    pub dense_mass: f64,
    /// Hoyer's sparsity of an image's code in the mean: 1 for one feature, 0 for all alike.
    pub hoyer: f64,
    /// Share of the images that each feature fires on.
    #[serde(skip)]
    pub rates: Vec<f64>,
    /// Active features of each image.
    #[serde(skip)]
    pub active: Vec<u32>,
}

/// Of codes whose values are not below 0.
#[must_use]
pub fn sparsity(codes: &Codes) -> Sparsity {
    let (n, features) = (whole(codes.samples), whole(codes.features()));
    let mut active = vec![0_u32; codes.samples];
    let mut sums = vec![[0.0_f64; 2]; codes.samples];
    let (mut rates, mut all, mut dense_mass) = (Vec::new(), 0.0, 0.0);
    for feature in 0..codes.features() {
        let column = codes.column(feature);
        let rate = whole(column.len()) / n;
        let mut mass = 0.0;
        for value in column {
            let v = f64::from(value.value);
            let sample = value.sample as usize;
            active[sample] += 1;
            sums[sample][0] += v;
            sums[sample][1] += v * v;
            mass += v;
        }
        all += mass;
        dense_mass += if rate > DENSE { mass } else { 0.0 };
        rates.push(rate);
    }
    let mut sorted: Vec<f64> = active.iter().map(|times| f64::from(*times)).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mean = sorted.iter().sum::<f64>() / n;
    let share =
        |is: &dyn Fn(f64) -> bool| whole(rates.iter().filter(|r| is(**r)).count()) / features;
    // (sqrt(m) - |a|_1 / |a|_2) / (sqrt(m) - 1); an image without a code counts as 0.
    let hoyer = sums.iter().filter(|[_, squares]| *squares > 0.0).map(|[sum, squares]| {
        (features.sqrt() - sum / squares.sqrt()) / (features.sqrt() - 1.0).max(f64::EPSILON)
    });
    Sparsity {
        l0: [mean, quantile(&sorted, 0.05), quantile(&sorted, 0.95)],
        l0_rate: mean / features,
        dead: share(&|rate| rate <= 0.0),
        rare: share(&|rate| rate < RARE),
        dense: share(&|rate| rate > DENSE),
        dense_mass: if all > 0.0 { dense_mass / all } else { 0.0 },
        hoyer: hoyer.sum::<f64>() / n,
        rates,
        active,
    }
}
