//! Engines that run models inside this process or behind an upstream.

mod calls;
mod choice;
mod config;
mod decoder;
pub mod embedded;
mod encoder;
mod files;
mod form;
mod generate;
mod gguf;
mod grammar;
mod likelihood;
mod model;
mod parameters;
mod places;
mod sampler;
mod schema;
mod sentencepiece;
mod spelled;
mod template;
mod vocabulary;
mod weights;

pub use files::ModelSource;
pub use places::EngineLimits;

#[cfg(test)]
mod tests;
