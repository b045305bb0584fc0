//! The house inspected and the appliance run with real peers, in one binary: one link for all
//! system tests.

mod children;
mod corpus;
mod disks;
mod durable;
mod encodings;
mod engines;
mod failing;
mod faults;
mod hostile;
mod lookalike;
mod peers;
mod receive;
mod schemas;
mod tidy;
