//! The loop that makes an answer, token by token, on a thread of its own.
//!
//! It stops at the model's own end, at a stop text, at the limit, where the form is complete, or within one token when
//! nobody listens any more. Several choices share the reading of the prompt and are made one after the other.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::choice::{Choice, Written};
use super::grammar::Constraint;
use super::model::{Model, failed};
use super::parameters::Parameters;
use crate::inference::{EngineError, Event, Usage};

/// What the loop sends.
pub(crate) type Step = Result<Event, EngineError>;

/// One answer to make.
pub(crate) struct Generation {
    pub model: Arc<Model>,
    pub prompt: Vec<u32>,
    /// Most tokens of each choice.
    pub limit: usize,
    pub parameters: Parameters,
    /// What every choice is held to.
    pub constraint: Option<Constraint>,
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
        let hidden = read.ok_or(Halt::Gone)?;
        let first = decoder.logits(&hidden).map_err(failed)?;
        let mut made = 0;
        for index in 0..self.parameters.choices {
            let mut choice = Choice::new(self, index)?;
            // The copies share what was read. One writes over what the one before it made, which is done with it.
            let mut cache = cache.clone();
            let mut scores = first.clone();
            loop {
                let (id, written) = choice.next(scores)?;
                let ended = self.write(steps, index, written)?;
                let (Some(id), false) = (id, ended) else { break };
                if steps.is_closed() {
                    return Err(Halt::Gone);
                }
                let hidden = decoder.forward(&[id], &mut cache).map_err(failed)?;
                scores = decoder.logits(&hidden).map_err(failed)?;
            }
            made += choice.tokens();
        }
        let usage = Usage { prompt_tokens: self.prompt.len() as u64, completion_tokens: made as u64 };
        Ok(send(steps, Event::Usage(usage))?)
    }

    /// Sends what came of a token; whether the choice has ended.
    fn write(&self, steps: &Sender<Step>, index: u32, written: Written) -> Result<bool, Gone> {
        for delta in written.deltas {
            send(steps, Event::Delta(delta))?;
        }
        let Some(reason) = written.end else { return Ok(false) };
        send(steps, Event::Finish { choice: index, reason: reason.into() })?;
        Ok(true)
    }
}

fn send(steps: &Sender<Step>, event: Event) -> Result<(), Gone> {
    steps.blocking_send(Ok(event)).map_err(|_| Gone)
}
