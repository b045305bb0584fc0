//! The house inspected and the appliance run with real peers, in one binary: one link for all
//! system tests.

mod arm;
mod associate;
mod brokers;
mod built;
mod canary;
mod children;
mod conformance;
mod corpus;
mod disks;
mod durable;
mod encodings;
mod engines;
mod export;
mod failing;
mod fallback;
mod fake;
mod faults;
mod folder;
mod hostile;
mod kills;
mod lookalike;
mod mosquitto;
mod operator;
mod orthanc;
mod peers;
mod receipts;
mod receive;
mod schemas;
mod senders;
mod tidy;
mod tls;
