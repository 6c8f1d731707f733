//! Engines that run models inside this process or behind an upstream.

mod config;
mod decoder;
pub mod embedded;
mod encoder;
mod files;
mod generate;
mod gguf;
mod model;
mod parameters;
mod places;
mod sampler;
mod sentencepiece;
mod template;
mod vocabulary;
mod weights;

pub use files::ModelSource;
pub use places::EngineLimits;

#[cfg(test)]
mod tests;
