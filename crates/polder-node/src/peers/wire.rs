//! The messages between peers, version 1: JSON inside a channel of two pinned keys.
//!
//! Unknown optional fields are ignored so that a newer peer can be understood; a newer version of a message is refused.
//! Signatures per request are absent: the capability is signed, and the ticket stands in both logs.

use polder_core::canonical::{Digest, bytes_as_hex};
use polder_core::facts::Passport;
use polder_core::ids::{ModelId, NodeId};
use polder_core::job::home::Sheet;
use polder_core::keys::Signed;
use polder_core::labels::Action;
use polder_core::policy::Cause;
use polder_core::receipt::Half;
use polder_core::ticket::{Capability, Ticket};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::inference::{
    ChatRequest, EmbedRequest, Embeddings, EngineError, Event, ImageRequest, Images, Ranking, RerankRequest, Signals,
};
use crate::store::Used;

/// The version of these messages.
pub const VERSION: u32 = 1;
/// Longest frame that is read, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What a factory says of itself: `GET /peer/v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// The factory.
    pub node: NodeId,
    /// The name of its terms file, for messages.
    pub terms_file: String,
    /// Its terms.
    pub terms: String,
    /// Its facts.
    pub passport: Passport,
    /// The models it serves now.
    pub models: Vec<Offer>,
    /// The back end that really runs, such as `cpu`.
    pub backend: String,
    /// Price of a million generated tokens, in micro-euro.
    pub price_microeur_per_mtok: u64,
    /// How many requests run at once.
    pub places: u32,
    /// How many more may wait.
    pub queue: u32,
    /// How many run or wait now.
    pub running: u32,
    /// What its engine says of its load, where it tells.
    #[serde(default, skip_serializing_if = "Signals::is_empty")]
    pub signals: Signals,
    /// What it offers for jobs, where it runs any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Sheet>,
    /// What time it is by the factory's clock, in Unix milliseconds; absent where that is the reader's own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
}

/// A model that a factory serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The name that requests use.
    pub model: ModelId,
    /// Longest prompt plus answer, in tokens; 0 where nobody knows.
    pub context_tokens: u32,
    /// Whether it answers conversations.
    pub chat: bool,
    /// Whether it makes vectors.
    pub embed: bool,
    /// Whether it orders texts by a query.
    #[serde(default)]
    pub rerank: bool,
    /// Whether it makes pictures.
    #[serde(default)]
    pub image: bool,
}

/// Work for a factory: `POST /peer/v1/run`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`].
    pub version: u32,
    /// The right to send it.
    pub capability: Signed<Capability>,
    /// What was decided.
    pub ticket: Ticket,
    /// The ticket's digest, where the envelope never left the process.
    #[serde(skip)]
    pub digest: Option<Digest>,
    /// The salt of the ticket's body digest.
    #[serde(with = "bytes_as_hex")]
    pub salt: [u8; 32],
    /// What is to be run.
    pub work: Sealed,
}

/// A [`Work`] in the bytes that the digest covers; where it never left the process, also as it was before.
#[derive(Debug, Clone)]
pub struct Sealed {
    text: Box<RawValue>,
    work: Option<Work>,
}

impl Sealed {
    /// A work in its bytes.
    pub fn new(work: Work) -> serde_json::Result<Self> {
        Ok(Self { text: serde_json::value::to_raw_value(&work)?, work: Some(work) })
    }

    /// The bytes that the digest covers.
    pub fn bytes(&self) -> &[u8] {
        self.text.get().as_bytes()
    }

    /// The work. Fails where it came from elsewhere and is not understood.
    pub fn open(self) -> serde_json::Result<Work> {
        match self.work {
            Some(work) => Ok(work),
            None => serde_json::from_str(self.text.get()),
        }
    }
}

impl Serialize for Sealed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { text: Box::deserialize(deserializer)?, work: None })
    }
}

/// What is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "work", content = "request", rename_all = "snake_case")]
pub enum Work {
    /// Answer a conversation.
    Chat(ChatRequest),
    /// Turn texts into vectors.
    Embed(EmbedRequest),
    /// Order texts by a query.
    Rerank(RerankRequest),
    /// Make pictures.
    Image(ImageRequest),
}

impl Work {
    /// What the policies are asked about it, and the model it names. Ordering texts is making vectors of them, as far as a
    /// policy is concerned: it reads the same texts, and a rule about one holds for both.
    pub fn asks(&self) -> (Action, &str) {
        match self {
            Self::Chat(request) => (Action::Infer, &request.model),
            Self::Embed(request) => (Action::Embed, &request.model),
            Self::Rerank(request) => (Action::Embed, &request.model),
            Self::Image(request) => (Action::GenerateImage, &request.model),
        }
    }
}

impl Work {
    /// Most tokens that it may generate.
    pub fn tokens_max(&self) -> u32 {
        match self {
            Self::Chat(request) => request.tokens_max(),
            Self::Embed(_) | Self::Rerank(_) | Self::Image(_) => 0,
        }
    }
}

/// One line of what comes back. The first says whether the work runs; the last is the receipt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "frame", content = "value", rename_all = "snake_case")]
pub enum Frame {
    /// The factory decided again and refuses.
    Refused(Vec<Cause>),
    /// The engine did not answer, or stopped.
    Failed(EngineError),
    /// A step of a chat answer.
    Event(Event),
    /// All the vectors.
    Embeddings(Embeddings),
    /// The texts in their order.
    Ranking(Ranking),
    /// All the pictures.
    Images(Images),
    /// The execution's half of the receipt, once the factory's log covers it.
    Receipt(SentHalf),
    /// The execution is on its way into the log, which is the home's own. Never sent to another node, and not understood from one.
    #[serde(skip)]
    Recorded(Used),
}

impl Envelope {
    /// The digest of the work's bytes under the envelope's salt.
    pub fn body_digest(&self) -> Digest {
        polder_core::ticket::body_digest(&self.salt, self.work.bytes())
    }
}

/// A half of a receipt in the bytes in which it is sent and kept. Whoever needs it reads it; a home that answers thousands of
/// requests a second reads only what was used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SentHalf(Box<RawValue>);

/// What a half says was used, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The factory.
    pub factory: NodeId,
    /// Tokens read and generated.
    pub tokens: u64,
}

impl SentHalf {
    /// A half in its bytes.
    pub fn new(half: &Half) -> serde_json::Result<Self> {
        serde_json::value::to_raw_value(half).map(Self)
    }

    /// What it says was used; nothing where it is no execution's.
    pub fn told(&self) -> Option<Told> {
        #[derive(Deserialize)]
        struct Read {
            statement: Statement,
        }
        #[derive(Deserialize)]
        struct Statement {
            statement: String,
            factory: NodeId,
            prompt_tokens: u64,
            completion_tokens: u64,
        }
        let read: Read = serde_json::from_str(self.0.get()).ok()?;
        let Statement { statement, factory, prompt_tokens, completion_tokens } = read.statement;
        let tokens = prompt_tokens.saturating_add(completion_tokens);
        (statement == "polder/execution/v1").then_some(Told { factory, tokens })
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        Box::<str>::from(self.0).into_string().into_bytes()
    }
}

#[cfg(test)]
mod tests;
