//! Releases from the keys that sign them to the device that takes them, by the shipped programs.

mod attacks;
mod booted;
mod clocks;
mod damage;
mod kills;
mod machine;
mod naive;
mod office;
mod receiver;
mod services;
mod signing;
mod waves;
mod web;
