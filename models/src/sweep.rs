//! Many runs that differ in a few settings: seeds, sizes, penalties. Each is a task of its own, so
//! that any scheduler can run them, and those that are done are not done again.
//!
//! Where a penalty decides how many latents fire, a run can be aimed at a number of them: short
//! trials move the penalty until it is met.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::recipe::Recipe;

/// What is swept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The recipe that all begin with.
    pub recipe: Table,
    /// Settings and the values that each takes: every combination is a run. Dots lead into tables
    /// of the recipe (`"select.k"`).
    #[serde(default)]
    pub grid: Table,
    /// Runs that are named one by one, with the settings that make them; each with the whole grid.
    #[serde(default)]
    pub run: Vec<Named>,
    /// What penalties are moved for.
    #[serde(default)]
    pub aim: Option<Aim>,
}

/// Settings under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Begins the run's name.
    pub name: String,
    /// Settings, by path.
    #[serde(default)]
    pub set: Table,
}

/// A number of active latents to be met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aim {
    /// Active latents of a held-out sample, in the mean.
    pub l0: f64,
    /// A run within this share of it is there.
    #[serde(default = "near")]
    pub near: f64,
    /// The setting that is moved: a larger value makes fewer latents fire.
    pub setting: String,
    /// Trials at most.
    #[serde(default = "trials")]
    pub trials: usize,
    /// Epochs of a trial; without it, all of the run's: where the number that fires falls for as
    /// long as is trained, a shorter one promises what the run does not keep.
    #[serde(default)]
    pub epochs: Option<u64>,
}

impl Aim {
    /// So many active latents are near enough.
    #[must_use]
    pub fn is_met_by(&self, l0: f64) -> bool {
        (l0 / self.l0 - 1.0).abs() <= self.near
    }
}

/// Shares of 10 % are well within what other samples change.
fn near() -> f64 {
    0.1
}

/// Four were enough wherever the penalty had an effect (`models/tests/sweep.rs`).
fn trials() -> usize {
    8
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Name of its folder.
    pub name: String,
    /// The whole recipe, as text, so that it can be changed by path.
    recipe: Table,
}

/// A sweep that makes no runs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SweepError {
    /// A setting has no list of values.
    #[error("sweep, grid.{setting}: expected a list of values, found {found}")]
    Grid {
        /// Which.
        setting: String,
        /// What is there.
        found: String,
    },
    /// A path leads through something that is no table.
    #[error(
        "sweep, {setting}: expected a path through tables of the recipe, found a value at {at}"
    )]
    Path {
        /// Which.
        setting: String,
        /// Where it ends.
        at: String,
    },
    /// A setting is not a number.
    #[error("sweep, aim: expected a number above 0 at {setting}, found {found}")]
    Number {
        /// Which.
        setting: String,
        /// What is there.
        found: String,
    },
    /// The settings make no recipe.
    #[error("sweep, run {name}: {source}")]
    Recipe {
        /// Which run.
        name: String,
        /// Why.
        source: toml::de::Error,
    },
}

impl Sweep {
    /// Every run, in the order of names and grid.
    ///
    /// # Errors
    /// A setting leads nowhere, or what it makes is no recipe.
    pub fn tasks(&self) -> Result<Vec<Task>, SweepError> {
        let alone = [Named { name: String::new(), set: Table::new() }];
        let named = if self.run.is_empty() { &alone[..] } else { &self.run };
        let mut tasks = Vec::new();
        for named in named {
            let mut task = Task { name: named.name.clone(), recipe: self.recipe.clone() };
            for (setting, value) in &named.set {
                task.set(setting, value.clone())?;
            }
            tasks.push(task);
        }
        for (setting, values) in &self.grid {
            let Value::Array(values) = values else {
                let found = values.to_string();
                return Err(SweepError::Grid { setting: setting.clone(), found });
            };
            let mut more = Vec::with_capacity(tasks.len() * values.len());
            for task in &tasks {
                for value in values {
                    let mut task = task.clone();
                    task.set(setting, value.clone())?;
                    let short = setting.rsplit('.').next().unwrap_or(setting);
                    let joint = if task.name.is_empty() { "" } else { "-" };
                    // A list's blanks and brackets have no place in the name of a folder.
                    let shown: String =
                        value.to_string().chars().filter(|c| !" \"[]".contains(*c)).collect();
                    write!(task.name, "{joint}{short}{shown}").unwrap_or_default();
                    more.push(task);
                }
            }
            tasks = more;
        }
        tasks.iter().try_for_each(|task| task.recipe().map(drop))?;
        Ok(tasks)
    }
}

impl Task {
    /// The recipe that its settings make.
    ///
    /// # Errors
    /// They make none.
    pub fn recipe(&self) -> Result<Recipe, SweepError> {
        let made = Value::Table(self.recipe.clone()).try_into();
        made.map_err(|source| SweepError::Recipe { name: self.name.clone(), source })
    }

    /// A number among its settings.
    ///
    /// # Errors
    /// It is none, or not above 0.
    pub fn number(&self, setting: &str) -> Result<f64, SweepError> {
        let mut at = Some(&self.recipe);
        let mut path: Vec<&str> = setting.split('.').collect();
        let last = path.pop().unwrap_or_default();
        for step in path {
            at = at.and_then(|table| table.get(step)).and_then(Value::as_table);
        }
        let found = at.and_then(|table| table.get(last));
        let number = found.and_then(|value| {
            value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
        });
        number.filter(|number| *number > 0.0).ok_or_else(|| {
            let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
            SweepError::Number { setting: setting.to_owned(), found }
        })
    }

    /// Changes one setting.
    ///
    /// # Errors
    /// The path leads through something that is no table.
    pub fn set(&mut self, setting: &str, value: Value) -> Result<(), SweepError> {
        let mut table = &mut self.recipe;
        let mut path: Vec<&str> = setting.split('.').collect();
        let last = path.pop().unwrap_or_default().to_owned();
        for step in path {
            let next = table.entry(step).or_insert_with(|| Value::Table(Table::new()));
            let found = (setting.to_owned(), step.to_owned());
            table =
                next.as_table_mut().ok_or(SweepError::Path { setting: found.0, at: found.1 })?;
        }
        table.insert(last, value);
        Ok(())
    }
}

/// The next penalty to try, by what earlier ones came to: `(penalty, l0)`, in the order of trial.
///
/// On logarithmic axes the number of active latents falls nearly straight with the penalty. The
/// first guess takes them to be in inverse proportion; later ones take the line through the two
/// trials that are nearest on either side, or the last two.
#[must_use]
pub fn next_penalty(tried: &[(f64, f64)], aim: f64) -> Option<f64> {
    // A dictionary that fires nothing tells only that the penalty was too large.
    let logs: Vec<(f64, f64)> = tried
        .iter()
        .map(|(penalty, l0)| (penalty.ln(), l0.max(aim / FAR).ln() - aim.ln()))
        .collect();
    let &(last, off) = logs.last()?;
    let over = logs.iter().filter(|(_, off)| *off > 0.0).max_by(|a, b| a.0.total_cmp(&b.0));
    let under = logs.iter().filter(|(_, off)| *off <= 0.0).min_by(|a, b| a.0.total_cmp(&b.0));
    let next = match (over, under) {
        (Some(a), Some(b)) if a.0 < b.0 => a.0 + (b.0 - a.0) * a.1 / (a.1 - b.1),
        _ => last + off.clamp(-FAR.ln(), FAR.ln()),
    };
    Some(next.exp())
}

/// A trial moves the penalty by no more than this factor where nothing is known of one side.
const FAR: f64 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> Sweep {
        let recipe = "[recipe]\nlatents = 64\n[recipe.select]\nkind = 'top-k'\nk = 4\n";
        toml::from_str(&format!("{recipe}{text}")).expect("a sweep")
    }

    #[test]
    fn every_combination_is_a_run_under_its_own_name() {
        let swept = sweep(
            "[grid]\nseed = [0, 1]\n'select.k' = [2, 4]\n[[run]]\nname = 'wide'\nset = { latents = 128 }\n",
        );
        let tasks = swept.tasks().expect("tasks");
        let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["wide-seed0-k2", "wide-seed0-k4", "wide-seed1-k2", "wide-seed1-k4"]);
        let recipe = tasks[3].recipe().expect("a recipe");
        assert_eq!((recipe.latents, recipe.seed, recipe.select.k()), (128, 1, Some(4)));
    }

    #[test]
    fn a_setting_that_leads_nowhere_is_refused_by_name() {
        let error = sweep("[grid]\n'select.kk' = [1]\n").tasks().expect_err("unknown");
        assert!(error.to_string().contains("kk"), "{error}");
        let error = sweep("[grid]\nseed = 1\n").tasks().expect_err("no list");
        assert!(error.to_string().contains("grid.seed"), "{error}");
        let error = sweep("[grid]\n'latents.k' = [1]\n").tasks().expect_err("no table");
        assert!(error.to_string().contains("latents"), "{error}");
    }

    #[test]
    fn a_penalty_is_found_in_a_few_trials() {
        // Active latents that fall as a bent line on logarithmic axes.
        let l0 = |penalty: f64| 40.0 * penalty.powf(-0.8) / (1.0 + 0.1 * penalty);
        for begin in [1e-3, 0.3, 50.0] {
            let mut tried = vec![(begin, l0(begin))];
            while (tried[tried.len() - 1].1 / 15.0 - 1.0).abs() > 0.1 {
                let next = next_penalty(&tried, 15.0).expect("a penalty");
                tried.push((next, l0(next)));
                assert!(tried.len() < 9, "from {begin}: {tried:?}");
            }
        }
    }
}
