//! The engine inside this process: candle on the CPU, for small models and for trying out.
//!
//! Models are loaded once and shared; one that cannot be loaded is listed with its reason and
//! does not keep the others from serving. Absent: accelerators. Those belong to upstream
//! engines, which speak OpenAI's API.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream;
use tokio::sync::mpsc;

use super::files::{ModelSource, model_file};
use super::generate::{Generation, Step};
use super::model::{Model, invalid};
use super::parameters::Parameters;
use super::places::{EngineLimits, Places, failed, guarded};
use crate::inference::{
    ChatRequest, EmbedRequest, Embeddings, Engine, EngineError, EngineFuture, EventStream, ModelInfo,
};

/// Steps that may wait for a slow listener before generation pauses.
const STEPS_WAITING: usize = 32;

/// The embedded engine.
pub struct Embedded {
    models: BTreeMap<String, Arc<Model>>,
    failures: Vec<(String, EngineError)>,
    places: Arc<Places>,
}

impl Embedded {
    /// Loads what can be loaded; the rest stands in [`Engine::failures`].
    ///
    /// Blocks while it reads the files.
    #[must_use]
    pub fn load(sources: &[ModelSource], limits: EngineLimits) -> Self {
        let mut models = BTreeMap::new();
        let mut failures = Vec::new();
        for source in sources {
            let loaded = if models.contains_key(&source.id) {
                Err(model_file(&source.path, "has the id of another model"))
            } else {
                // Checks come first, but the library underneath may still panic on bad files.
                guarded(|| Model::load(source, limits.context_tokens))
                    .map_err(|_| model_file(&source.path, "is damaged: loading broke off"))
                    .flatten()
            };
            match loaded {
                Ok(model) => {
                    models.insert(source.id.clone(), Arc::new(model));
                }
                Err(error) => failures.push((source.id.clone(), error)),
            }
        }
        Self { models, failures, places: Arc::new(Places::new(limits)) }
    }

    fn model(&self, id: &str) -> Result<Arc<Model>, EngineError> {
        self.models.get(id).cloned().ok_or_else(|| EngineError::UnknownModel { model: id.into() })
    }

    async fn answer(&self, request: ChatRequest) -> Result<EventStream, EngineError> {
        let model = self.model(&request.model)?;
        if !model.info.chat {
            return Err(invalid("model", "has embeddings only"));
        }
        let parameters = Parameters::of(&request)?;
        let admission = self.places.admit()?;
        let generation = blocking(move || {
            let (prompt, limit) = model.prompt(&request.messages, &parameters)?;
            let constraint = model.constraint(&parameters.wanted)?;
            Ok(Generation { model, prompt, limit, parameters, constraint })
        })
        .await??;
        let place = self.places.turn(admission).await?;
        let (sender, mut steps) = mpsc::channel::<Step>(STEPS_WAITING);
        let places = self.places.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            if let Err(error) = places.compute(|| generation.run(&sender)) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        // Waiting for the first step lets what fails at once fail the request itself.
        let first = steps.recv().await.ok_or_else(|| failed("the answer broke off"))??;
        Ok(Box::pin(stream::unfold((Some(Ok(first)), steps), |(first, mut steps)| async move {
            let step = match first {
                Some(step) => Some(step),
                None => steps.recv().await,
            };
            step.map(|step| (step, (None, steps)))
        })))
    }

    async fn vectors(&self, request: EmbedRequest) -> Result<Embeddings, EngineError> {
        let model = self.model(&request.model)?;
        let admission = self.places.admit()?;
        let reader = model.clone();
        let dimensions = request.dimensions;
        let inputs = blocking(move || reader.inputs(&request)).await??;
        let place = self.places.turn(admission).await?;
        // The receiver is dropped with this future, and the work asks whether it still is there.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let places = self.places.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let work = || model.embed(&inputs, dimensions, || !sender.is_closed());
            let result = places.compute(work).flatten();
            let _ = sender.send(result);
        });
        receiver.await.map_err(|_| failed("the embedding broke off"))?
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(move || guarded(work)).await.map_err(|_| failed("the work broke off"))?
}

impl Engine for Embedded {
    fn backend(&self) -> String {
        "cpu".into()
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.models.values().map(|model| model.info.clone()).collect()
    }

    fn failures(&self) -> Vec<(String, EngineError)> {
        self.failures.clone()
    }

    fn chat(&self, request: ChatRequest) -> EngineFuture<'_, EventStream> {
        Box::pin(self.answer(request))
    }

    fn embed(&self, request: EmbedRequest) -> EngineFuture<'_, Embeddings> {
        Box::pin(self.vectors(request))
    }
}
