//! Templates, tokens that make half a character, and stop texts.

use std::path::Path;

use serde_json::json;

use super::super::sampler::Sampler;
use super::super::template::ChatTemplate;
use super::super::vocabulary::{Detokenizer, StopFilter, Vocabulary};
use super::{Folder, demo, message};
use crate::inference::{Content, EngineError, Message};

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(Some(source.into()), "<s>".into(), "</s>".into()).unwrap()
}

fn render(template: &ChatTemplate, messages: &[Message]) -> Result<String, EngineError> {
    template.render(&template.conversation(messages)?, &[])
}

#[test]
fn a_template_sees_messages_tokens_and_the_prompt_flag() {
    let source = "{{ bos_token }}{% for m in messages %}\n\
        {% if m.role not in ['system', 'user', 'assistant'] %}{% continue %}{% endif %}\n\
        [{{ m['role'].upper() }}]{{ m['content'].strip() }}{{ eos_token }}\n\
        {% endfor %}{% if add_generation_prompt %}[A]{% endif %}";
    let messages = [message("developer", " be brief "), message("user", "hi")];
    let text = render(&template(source), &messages).unwrap();
    assert_eq!(text, "<s>[SYSTEM]be brief</s>\n[USER]hi</s>\n[A]");
}

#[test]
fn without_a_template_the_plain_form_is_used() {
    let plain = ChatTemplate::new(None, String::new(), String::new()).unwrap();
    let text = render(&plain, &[message("user", "hi")]).unwrap();
    assert_eq!(text, "User: hi\n\nAssistant:");
}

#[test]
fn a_templates_own_refusal_is_passed_on() {
    let picky = template("{{ raise_exception('roles must alternate') }}");
    let error = render(&picky, &[message("user", "hi")]).unwrap_err();
    assert_eq!(error.to_string(), "`messages` are refused by the model's chat template: roles must alternate");
}

#[test]
fn a_template_cannot_run_for_ever() {
    let endless = template("{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}");
    let error = render(&endless, &[message("user", "hi")]).unwrap_err();
    assert!(matches!(error, EngineError::Invalid { .. }), "{error}");
}

#[test]
fn the_date_is_written_as_templates_ask() {
    let text = render(&template("{{ strftime_now('%d %b %Y, 100%%') }}"), &[message("user", "hi")]).unwrap();
    assert_eq!(text.len(), "01 Jan 2026, 100%%".len());
}

#[test]
fn text_parts_are_joined_and_images_refused() {
    let part = |value: serde_json::Value| value.as_object().unwrap().clone();
    let with = |parts| Message { content: Some(Content::Parts(parts)), ..message("user", "") };
    let show = template("{{ messages[0].content }}");
    let texts = with(vec![part(json!({"type": "text", "text": "one "})), part(json!({"type": "text", "text": "two"}))]);
    assert_eq!(render(&show, &[texts]).unwrap(), "one two");
    let image = with(vec![part(json!({"type": "image_url", "image_url": {"url": "x"}}))]);
    assert_eq!(render(&show, &[image]).unwrap_err(), EngineError::Unsupported { parameter: "messages".into() });
    assert!(render(&show, &[message("robot", "hi")]).is_err());
}

#[test]
fn templates_come_as_text_list_or_file() {
    let folder = Folder::new();
    let write = |name: &str, text: &str| std::fs::write(folder.0.join(name), text).unwrap();
    let render = |folder: &Path| render(&ChatTemplate::read(folder)?, &[message("user", "hi")]);
    write("tokenizer_config.json", r#"{"chat_template": "one {{ bos_token }}", "bos_token": {"content": "<b>"}}"#);
    assert_eq!(render(&folder.0).unwrap(), "one <b>");
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "two"}]}"#;
    write("tokenizer_config.json", list);
    assert_eq!(render(&folder.0).unwrap(), "two");
    write("chat_template.jinja", "three");
    assert_eq!(render(&folder.0).unwrap(), "three");
    write("chat_template.jinja", "{% if %}");
    let error = render(&folder.0).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja"), "{error}");
}

#[test]
fn characters_are_never_cut() {
    let vocabulary = Vocabulary::read(&demo().join("tokenizer.json")).unwrap();
    let text = "Grüße 漢字 👩‍🔬 naïve — ok";
    let ids = vocabulary.encode(text, false).unwrap();
    let mut detokenizer = Detokenizer::new(&vocabulary);
    let mut whole = String::new();
    for id in ids {
        let piece = detokenizer.push(id).unwrap();
        assert!(!piece.contains('\u{fffd}'), "{piece:?}");
        whole += &piece;
    }
    whole += &detokenizer.finish().unwrap();
    assert_eq!(whole, text);
}

#[test]
fn half_a_character_at_the_end_is_replaced_not_lost() {
    let vocabulary = Vocabulary::read(&demo().join("tokenizer.json")).unwrap();
    let ids = vocabulary.encode("漢", false).unwrap();
    assert!(ids.len() > 1, "the toy has no token for it");
    let mut detokenizer = Detokenizer::new(&vocabulary);
    assert_eq!(detokenizer.push(ids[0]).unwrap(), "");
    assert_eq!(detokenizer.finish().unwrap(), "\u{fffd}");
}

#[test]
fn a_stop_text_is_found_across_pieces() {
    let mut filter = StopFilter::new(vec!["END".into(), "éé".into()]);
    assert_eq!(filter.push("one E"), ("one ".into(), false));
    assert_eq!(filter.push("N"), (String::new(), false));
    assert_eq!(filter.push("x é"), ("ENx ".into(), false));
    assert_eq!(filter.push("e"), ("ée".into(), false));
    assert_eq!(filter.push("EEN"), ("E".into(), false));
    assert_eq!(filter.push("D more"), (String::new(), true));
    let mut filter = StopFilter::new(vec!["END".into()]);
    assert_eq!(filter.push("EN"), (String::new(), false));
    assert_eq!(filter.finish(), "EN");
}

#[test]
fn a_small_nucleus_is_greedy_and_no_numbers_are_noticed() {
    let scores = [0.1f32, 2.0, 1.9, f32::NAN, f32::NEG_INFINITY];
    for seed in 0..50 {
        assert_eq!(Sampler::new(seed, 1.0, 0.01).pick(&scores), Some(1));
        let hot = Sampler::new(seed, 2.0, 1.0).pick(&scores);
        assert!(matches!(hot, Some(0..=2)), "{hot:?}");
    }
    assert_eq!(Sampler::new(0, 0.0, 1.0).pick(&[f32::NAN]), None);
}

#[test]
fn draws_follow_the_probabilities() {
    let scores = [(0.7f32).ln(), (0.2f32).ln(), (0.1f32).ln()];
    let mut sampler = Sampler::new(3, 1.0, 1.0);
    let mut counts = [0u32; 3];
    for _ in 0..20_000 {
        counts[sampler.pick(&scores).unwrap() as usize] += 1;
    }
    for (count, share) in counts.iter().zip([0.7, 0.2, 0.1]) {
        assert!((f64::from(*count) / 20_000.0 - share).abs() < 0.02, "{counts:?}");
    }
}

#[test]
fn bytes_that_never_make_a_character_do_not_swallow_what_follows() {
    let vocabulary = Vocabulary::read(&demo().join("tokenizer.json")).unwrap();
    let half = vocabulary.encode("漢", false).unwrap()[0];
    let mut detokenizer = Detokenizer::new(&vocabulary);
    let mut text = String::new();
    for id in std::iter::repeat_n(half, 50).chain(vocabulary.encode("ok", false).unwrap()) {
        text += &detokenizer.push(id).unwrap();
    }
    text += &detokenizer.finish().unwrap();
    assert!(text.starts_with('\u{fffd}') && text.ends_with("ok"), "{text}");
}
