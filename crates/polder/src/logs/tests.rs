//! Tests of log lines: which fields may stand in one, and that no value can begin another line or another field.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn said(fields: &[(&str, Value)]) -> Said {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Said { message: "it fails".to_owned(), fields }
}

#[test]
fn a_value_cannot_begin_another_line_or_field() {
    let line = text("now", "WARN", "polder", &said(&[("error", "a\nb error=\"c\"".into()), ("lost", 3.into())]));
    assert_eq!(line, "now  WARN polder: it fails error=\"a\\nb error=\\\"c\\\"\" lost=3\n");
    let line = json("now".to_owned(), "WARN", "polder", said(&[("error", "a\nb".into())]));
    assert_eq!(line.lines().count(), 1);
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&object["error"], &object["message"]), (&"a\nb".into(), &"it fails".into()));
}

#[test]
fn the_list_is_sorted_and_none_of_its_names_is_the_lines_own() {
    assert!(LOG_FIELDS.is_sorted());
    assert!(["timestamp", "level", "target", "message"].iter().all(|name| !LOG_FIELDS.contains(name)));
}

#[test]
fn a_field_that_is_not_on_the_list_is_dropped() {
    use std::sync::{Arc, Mutex};
    struct Catch(Arc<Mutex<Vec<Said>>>);
    impl<S: Subscriber> Layer<S> for Catch {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut said = Said::default();
            event.record(&mut said);
            self.0.lock().unwrap().push(said);
        }
    }
    let caught = Arc::default();
    let layer = tracing_subscriber::registry().with(Catch(Arc::clone(&caught)));
    tracing::subscriber::with_default(layer, || {
        // House rules read this as test code.
        tracing::error!(prompt = "My secret", lost = 2, error = "gone", "it fails");
    });
    let caught = caught.lock().unwrap();
    let fields: Vec<&str> = caught[0].fields.keys().map(String::as_str).collect();
    assert_eq!((fields, caught[0].message.as_str()), (vec!["lost", "error"], "it fails"));
}
