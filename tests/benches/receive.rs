//! How fast objects are received, beside the disk and beside other receivers.
//!
//! Everything takes the same bytes from the same sender, one after the other, in several rounds,
//! so that a machine's mood meets all alike; each round begins with an empty folder and a synced
//! disk. Figures go to standard output as tables of `docs/benchmarks.md`.
#![expect(clippy::print_stdout, reason = "the tables are what a benchmark makes")]

mod figures;
mod load;
#[expect(dead_code, reason = "the system tests use the rest of it")]
#[path = "../system/mosquitto.rs"]
mod mosquitto;
#[expect(dead_code, unused_imports, reason = "the system tests use the rest of it")]
#[path = "../system/peers.rs"]
mod peers;
mod receivers;

use figures::{argument, asked, load_average, median, percentile};
use load::{Load, Run};
use peers::Broker;
use receivers::Receiver;

/// Rounds where the command line does not say: an odd number has a middle.
const ROUNDS: usize = 7;

/// What is sent. So many objects that a round of one receiver takes one to four seconds.
const LOADS: [Load; 4] = [
    Load { rows: 500, columns: 500, associations: 1, objects: 200 },
    Load { rows: 500, columns: 500, associations: 8, objects: 25 },
    Load { rows: 2500, columns: 2048, associations: 1, objects: 40 },
    Load { rows: 2500, columns: 2048, associations: 8, objects: 5 },
];

fn main() {
    if !asked() {
        return;
    }
    let rounds = argument("--rounds", ROUNDS);
    let broker = Broker::start();
    println!("{rounds} rounds, load average before {}", load_average());
    for load in &LOADS {
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); Receiver::ALL.len()];
        for _ in 0..rounds {
            for (receiver, runs) in Receiver::ALL.iter().zip(&mut runs) {
                runs.push(receiver.run(load, &broker));
            }
        }
        print(load, &runs);
    }
    println!("load average after {}", load_average());
}

/// One table: throughput as the median of the rounds, its share of the disk's as the median of
/// what the rounds give, times over all objects of all rounds.
fn print(load: &Load, runs: &[Vec<Run>]) {
    println!("\n{} MB over {} association(s)\n", load.megabytes(), load.associations);
    println!("| receiver | images/s | lowest to highest | of raw disk | p50 ms | p99 ms |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let disk: Vec<f64> = runs[0].iter().map(Run::per_second).collect();
    for (receiver, runs) in Receiver::ALL.iter().zip(runs) {
        let speeds: Vec<f64> = runs.iter().map(Run::per_second).collect();
        let shares: Vec<f64> = speeds.iter().zip(&disk).map(|(own, disk)| own / disk).collect();
        let times: Vec<f64> = runs.iter().flat_map(|run| run.times.iter().copied()).collect();
        println!(
            "| {receiver} | {:.1} | {:.1} to {:.1} | {:.0} % | {:.1} | {:.1} |",
            median(&speeds),
            percentile(&speeds, 0),
            percentile(&speeds, 100),
            100.0 * median(&shares),
            percentile(&times, 50),
            percentile(&times, 99)
        );
    }
}
