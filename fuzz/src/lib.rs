//! What the fuzz targets share: an attacker's tools and a naive model of the gateway.
//!
//! Nothing here calls the code of `spa-proto` that it is held against: the Noise message, the tag and the judgement are
//! written a second time, as plainly as the protocol page has them.

pub mod cast;
pub mod forge;
pub mod halves;
pub mod model;
pub mod numbers;
pub mod steps;
pub mod wire;
