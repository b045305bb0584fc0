//! Releases from the keys that sign them to the device that takes them, by the shipped programs.

mod attacks;
mod clocks;
mod damage;
mod naive;
mod office;
mod signing;
mod waves;
mod web;
