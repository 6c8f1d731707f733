//! Engines that run models inside this process or behind an upstream.

mod config;
mod decoder;
pub mod embedded;
mod files;
mod generate;
mod model;
mod parameters;
mod places;
mod sampler;
mod template;
mod vocabulary;
mod weights;

pub use files::ModelSource;
pub use places::EngineLimits;
