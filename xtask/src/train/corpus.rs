//! The training text, and the tokenizer that is learnt from it.
//!
//! A corpus is a folder of `.txt` files: blocks between blank lines, each either prose or a
//! dialogue of `Q: ` and `A: ` lines. Absent: any text that is not in those files; the model
//! knows nothing else.

use std::path::Path;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use tokenizers::decoders::byte_level::ByteLevel as ByteDecoder;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// The tokens with a meaning of their own, in the order of their ids.
pub const SPECIAL: [&str; 5] = ["<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"];
/// Id of `<|end|>`.
pub const END: u32 = 1;
/// How a conversation is written; must agree with [`Corpus::dialogue`].
pub const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// System texts to learn to live with.
const SYSTEMS: [&str; 4] = [
    "You are a helpful assistant.",
    "Answer briefly.",
    "You are Polder's toy model. Answer in one or two sentences.",
    "Du bist ein hilfreicher Assistent.",
];

/// One question and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    question: String,
    answer: String,
}

/// The blocks of all files.
#[derive(Default)]
pub struct Corpus {
    pub prose: Vec<String>,
    pub dialogues: Vec<Vec<Turn>>,
}

impl Corpus {
    /// Reads all `.txt` files of a folder in name order.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let fail = |e: std::io::Error| format!("cannot read `{}`: {e}", folder.display());
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|e| e == "txt") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut corpus = Self::default();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
            for block in text.replace("\r\n", "\n").split("\n\n") {
                corpus.add(block.trim());
            }
        }
        if corpus.prose.is_empty() && corpus.dialogues.is_empty() {
            return Err(format!("`{}` holds no text", folder.display()));
        }
        Ok(corpus)
    }

    fn add(&mut self, block: &str) {
        if !block.starts_with("Q: ") {
            if !block.is_empty() {
                self.prose.push(block.to_owned());
            }
            return;
        }
        let mut turns: Vec<Turn> = Vec::new();
        let mut answering = false;
        for line in block.lines() {
            if let Some(question) = line.strip_prefix("Q: ") {
                turns.push(Turn { question: question.trim().to_owned(), answer: String::new() });
                answering = false;
                continue;
            }
            let Some(turn) = turns.last_mut() else {
                continue;
            };
            if let Some(answer) = line.strip_prefix("A: ") {
                turn.answer = answer.trim().to_owned();
                answering = true;
            } else if answering {
                turn.answer.push('\n');
                turn.answer.push_str(line.trim());
            } else {
                turn.question.push('\n');
                turn.question.push_str(line.trim());
            }
        }
        turns.retain(|turn| !turn.answer.is_empty());
        if !turns.is_empty() {
            self.dialogues.push(turns);
        }
    }

    fn texts(&self) -> impl Iterator<Item = String> + '_ {
        let turns = self.dialogues.iter().flatten();
        turns.flat_map(|turn| [turn.question.clone(), turn.answer.clone()]).chain(self.prose.iter().cloned())
    }

    /// Learns byte pairs from the corpus. Every byte is a token, so any text can be written.
    pub fn tokenizer(&self, size: usize) -> Result<Tokenizer, String> {
        let fail = |e: tokenizers::Error| e.to_string();
        let mut trainer = TrainerWrapper::BpeTrainer(
            BpeTrainer::builder()
                .vocab_size(size)
                .min_frequency(2)
                .show_progress(false)
                .special_tokens(SPECIAL.map(|t| AddedToken::from(t, true)).to_vec())
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .build(),
        );
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteDecoder::new(false, true, true)));
        tokenizer.train(&mut trainer, self.texts()).map_err(fail)?;
        let framed = TemplateProcessing::builder()
            .try_single("<|bos|> $A")
            .and_then(|b| b.try_pair("<|bos|> $A $B"))?
            .special_tokens(vec![("<|bos|>", 0)])
            .build()
            .map_err(|e| e.to_string())?;
        tokenizer.with_post_processor(Some(framed));
        Ok(tokenizer)
    }

    /// One pass over the corpus as texts to learn, freshly varied and shuffled.
    ///
    /// A dialogue of several turns also appears turn by turn, so that a question that comes in
    /// its middle can be asked alone. Some questions lose their case or their last mark, some
    /// follow another dialogue, and some have a system text: people do not type like a corpus.
    pub fn epoch(&self, random: &mut Pcg64) -> Vec<String> {
        let mut texts: Vec<String> = self.prose.iter().map(|text| format!("<|bos|>{text}<|end|>")).collect();
        for turns in &self.dialogues {
            texts.push(self.dialogue(turns, random));
            if turns.len() > 1 {
                for turn in turns {
                    texts.push(self.dialogue(std::slice::from_ref(turn), random));
                }
            }
        }
        for i in (1..texts.len()).rev() {
            texts.swap(i, below(random, i + 1));
        }
        texts
    }

    fn dialogue(&self, turns: &[Turn], random: &mut Pcg64) -> String {
        let mut text = String::from("<|bos|>");
        if below(random, 10) == 0 {
            let system = SYSTEMS.get(below(random, SYSTEMS.len())).unwrap_or(&"");
            text += &format!("<|system|>{system}<|end|>");
        }
        if below(random, 8) == 0
            && let Some(before) = self.dialogues.get(below(random, self.dialogues.len()))
            && let Some(turn) = before.first()
        {
            push_turn(&mut text, turn, random);
        }
        for turn in turns {
            push_turn(&mut text, turn, random);
        }
        text
    }
}

fn push_turn(text: &mut String, turn: &Turn, random: &mut Pcg64) {
    let mut question = turn.question.clone();
    match below(random, 10) {
        0 => question = question.to_lowercase(),
        1 => question.truncate(question.trim_end_matches(['?', '.', '!']).len()),
        _ => {}
    }
    *text += &format!("<|user|>{question}<|end|><|assistant|>{}<|end|>", turn.answer);
}

/// A number below `bound`; the bias of the remainder is far below what training notices.
fn below(random: &mut Pcg64, bound: usize) -> usize {
    (random.next_u64() % bound.max(1) as u64) as usize
}
