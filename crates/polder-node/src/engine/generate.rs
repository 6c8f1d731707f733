//! The loop that makes an answer, token by token, on a thread of its own.
//!
//! It stops at the model's own end, at a stop text, at the limit, or within one token when
//! nobody listens any more. Absent: several choices for one request.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::model::{Model, failed};
use super::parameters::Parameters;
use super::sampler::Sampler;
use super::vocabulary::{Detokenizer, StopFilter};
use crate::inference::{Delta, EngineError, Event, Usage};

/// What the loop sends.
pub(crate) type Step = Result<Event, EngineError>;

/// One answer to make.
pub(crate) struct Generation {
    pub model: Arc<Model>,
    pub prompt: Vec<u32>,
    /// Most tokens of the answer.
    pub limit: usize,
    pub parameters: Parameters,
}

/// The listener has gone.
struct Gone;

/// Why the loop ended early.
enum Halt {
    Gone,
    Error(EngineError),
}

impl From<Gone> for Halt {
    fn from(_: Gone) -> Self {
        Halt::Gone
    }
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Self {
        Halt::Error(error)
    }
}

impl Generation {
    /// Makes the answer; errors become the stream's last item.
    pub(crate) fn run(self, steps: &Sender<Step>) {
        if let Err(Halt::Error(error)) = self.answer(steps) {
            // A listener that has gone needs no error.
            let _ = steps.blocking_send(Err(error));
        }
    }

    fn answer(&self, steps: &Sender<Step>) -> Result<(), Halt> {
        let decoder = self.model.decoder()?;
        let mut cache = decoder.cache();
        let read = Model::read(decoder, &mut cache, &self.prompt, |_| Ok(!steps.is_closed()))?;
        let mut hidden = read.ok_or(Halt::Gone)?;
        let mut sampler = self.sampler()?;
        let mut detokenizer = Detokenizer::new(self.model.vocabulary());
        let mut filter = StopFilter::new(self.parameters.stop.clone());
        let mut made = 0;
        let reason = loop {
            let scores = decoder.logits(&hidden).map_err(failed)?;
            let id = sampler.pick(&scores).ok_or_else(no_numbers)?;
            made += 1;
            if self.model.ends(id) {
                break "stop";
            }
            let (text, met) = filter.push(&detokenizer.push(id)?);
            send_text(steps, text)?;
            if met {
                break "stop";
            }
            if made >= self.limit {
                break "length";
            }
            if steps.is_closed() {
                return Err(Halt::Gone);
            }
            hidden = decoder.forward(&[id], &mut cache).map_err(failed)?;
        };
        self.finish(steps, reason, &mut detokenizer, &mut filter)?;
        let usage = Usage { prompt_tokens: self.prompt.len() as u64, completion_tokens: made as u64 };
        Ok(send(steps, Event::Usage(usage))?)
    }

    fn finish(
        &self,
        steps: &Sender<Step>,
        reason: &str,
        detokenizer: &mut Detokenizer<'_>,
        filter: &mut StopFilter,
    ) -> Result<(), Halt> {
        let (text, met) = filter.push(&detokenizer.finish()?);
        send_text(steps, text)?;
        if !met {
            send_text(steps, filter.finish())?;
        }
        let reason = if met { "stop" } else { reason };
        Ok(send(steps, Event::Finish { choice: 0, reason: reason.into() })?)
    }

    fn sampler(&self) -> Result<Sampler, EngineError> {
        let seed = match self.parameters.seed {
            Some(seed) => seed,
            None => {
                getrandom::u64().map_err(|error| EngineError::Failed { reason: format!("no random seed: {error}") })?
            }
        };
        let Parameters { temperature, top_p, .. } = self.parameters;
        Ok(Sampler::new(seed, temperature, top_p))
    }
}

fn no_numbers() -> EngineError {
    EngineError::Failed { reason: "the model's scores are no numbers".into() }
}

fn send_text(steps: &Sender<Step>, text: String) -> Result<(), Gone> {
    if text.is_empty() {
        return Ok(());
    }
    send(steps, Event::Delta(Delta { content: Some(text), ..Delta::default() }))
}

fn send(steps: &Sender<Step>, event: Event) -> Result<(), Gone> {
    steps.blocking_send(Ok(event)).map_err(|_| Gone)
}
