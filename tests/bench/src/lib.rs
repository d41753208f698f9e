//! Helpers of `scripts/bench.sh`: the flood's packets, and a way to hand many of them to the kernel at once.

pub mod batch;
pub mod packet;
