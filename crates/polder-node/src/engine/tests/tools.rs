//! Tools: calls that are demanded, calls that are found, and templates that show tools.

use serde_json::{Value, json};

use super::choices::{Whole, whole, with};
use super::form::hot;
use super::{Folder, answer, ask, engine, load, message, refused};
use crate::engine::calls::{Finder, Writer};
use crate::engine::template::ChatTemplate;
use crate::inference::{ChatRequest, Engine as _, EngineError, Message};

fn tools() -> Value {
    let city = json!({
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
        "required": ["city", "days"],
        "additionalProperties": false,
        "$defs": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    });
    json!([
        {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": city}},
        {"type": "function", "function": {"name": "now"}},
    ])
}

/// The one call of a choice, put together as an SDK does: name and arguments.
fn call(choice: &Whole) -> (String, String) {
    let first = &choice.calls[0];
    assert_eq!((&first["index"], &first["type"]), (&json!(0), &json!("function")), "{first}");
    assert!(first["id"].as_str().unwrap().starts_with("call_"), "{first}");
    let mut arguments = String::new();
    for piece in &choice.calls {
        assert_eq!(piece["index"], json!(0));
        arguments += piece["function"]["arguments"].as_str().unwrap();
    }
    assert!(choice.calls[1..].iter().all(|piece| piece.get("id").is_none() && piece["function"].get("name").is_none()));
    (first["function"]["name"].as_str().unwrap().to_owned(), arguments)
}

fn fits(name: &str, arguments: &str) {
    let value: Value = serde_json::from_str(arguments).unwrap_or_else(|e| panic!("{e}: {arguments}"));
    match name {
        "get_weather" => {
            assert!(["Paris", "Rome"].contains(&value["city"].as_str().unwrap()), "{value}");
            assert!((1..=14).contains(&value["days"].as_i64().unwrap()), "{value}");
        }
        "now" => assert_eq!(value, json!({})),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_demanded_call_is_one_of_the_tools() {
    let engine = engine();
    let mut names = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let hot = ChatRequest { stop: vec!["name".into(), "}".into()], ..hot(seed) };
        let request = with(with(hot, "tools", tools()), "tool_choice", json!("required"));
        let (choices, usage) = whole(&engine, with(request, "logprobs", json!(true))).await.unwrap();
        assert_eq!((choices[0].reason.as_str(), choices[0].text.as_str()), ("tool_calls", ""));
        assert!(choices[0].logprobs.is_empty() && usage.completion_tokens > 0);
        let (name, arguments) = call(&choices[0]);
        fits(&name, &arguments);
        names.insert(name);
    }
    assert_eq!(names.len(), 2, "both are called at times");
}

#[tokio::test]
async fn a_named_call_is_that_one_in_every_choice() {
    let engine = engine();
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    let request = with(with(hot(1), "tools", tools()), "tool_choice", named);
    let (choices, _) = whole(&engine, with(request.clone(), "n", json!(3))).await.unwrap();
    for choice in &choices {
        let (name, arguments) = call(choice);
        assert_eq!(name, "get_weather");
        fits(&name, &arguments);
    }
    let ids: std::collections::BTreeSet<&str> =
        choices.iter().map(|one| one.calls[0]["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3, "each call has an id of its own");
    // Wherever it is cut, what was sent begins what would have been sent.
    let full = whole(&engine, request.clone()).await.unwrap().0;
    let (_, arguments) = call(&full[0]);
    for limit in [1, 8, 14, 18, 22] {
        let (cut, usage) = whole(&engine, ChatRequest { max_tokens: Some(limit), ..request.clone() }).await.unwrap();
        if usage.completion_tokens < u64::from(limit) || cut[0].reason == "tool_calls" {
            continue;
        }
        assert_eq!(cut[0].reason, "length");
        if !cut[0].calls.is_empty() {
            assert!(arguments.starts_with(&call(&cut[0]).1), "{arguments}");
        }
    }
}

#[tokio::test]
async fn without_a_demand_a_template_without_tools_answers_in_text() {
    let engine = engine();
    let plain = answer(&engine, ask("What is the capital of France?")).await.unwrap().text;
    for choice in [json!(null), json!("auto"), json!("none")] {
        let request = with(with(ask("What is the capital of France?"), "tools", tools()), "tool_choice", choice);
        let (choices, _) = whole(&engine, request).await.unwrap();
        assert_eq!((&choices[0].text, choices[0].reason.as_str()), (&plain, "stop"));
        assert!(choices[0].calls.is_empty());
    }
}

#[tokio::test]
async fn tools_that_are_none_are_refused_by_name() {
    let engine = engine();
    let tool = |value: Value| json!([{"type": "function", "function": value}]);
    let mut cases = vec![
        ("tools", json!("x"), "tools"),
        ("tools", json!([{"type": "custom"}]), "tools[0].type"),
        ("tools", json!([{"type": "function"}]), "tools[0].function"),
        ("tools", tool(json!({"name": "a b"})), "tools[0].function.name"),
        ("tools", tool(json!({"name": "f", "parameters": {"type": "string"}})), "tools[0].function.parameters"),
        (
            "tools",
            tool(json!({"name": "f", "parameters": {"type": "object", "minimum": "x"}})),
            "tools[0].function.parameters.minimum",
        ),
        ("tool_choice", json!("required"), "tool_choice"),
        ("tool_choice", json!("always"), "tool_choice"),
        ("tool_choice", json!({"type": "function", "function": {"name": "g"}}), "tool_choice.function.name"),
    ];
    cases.push(("tool_choice", json!({"type": "allowed_tools"}), "tool_choice"));
    for (name, value, parameter) in cases {
        let error = refused(&engine, with(ask("Hello"), name, value.clone())).await;
        assert!(matches!(&error, EngineError::Invalid { parameter: p, .. } if p == parameter), "{value}: {error}");
    }
    let error =
        refused(&engine, with(ask("Hello"), "tools", tool(json!({"name": "f", "parameters": {"not": {}}})))).await;
    assert_eq!(error, EngineError::Unsupported { parameter: "tools[0].function.parameters.not".into() });
}

fn turn() -> Vec<Message> {
    let mut called = message("assistant", "");
    called.content = None;
    let function = json!({"name": "get_weather", "arguments": "{\"city\": \"Rome\"}"});
    called.rest.insert("tool_calls".into(), json!([{"id": "call_1", "type": "function", "function": function}]));
    let mut result = message("tool", "sunny");
    result.rest.insert("tool_call_id".into(), "call_1".into());
    vec![message("user", "Weather?"), called, result]
}

#[tokio::test]
async fn a_turn_with_tools_goes_on() {
    let engine = engine();
    let request = ChatRequest { messages: turn(), ..ask("") };
    let (choices, _) = whole(&engine, with(request, "tools", tools())).await.unwrap();
    assert!(!choices[0].text.is_empty());
}

#[test]
fn a_template_shows_tools_in_its_own_way() {
    let source = "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<tool_call>{% endif %}\
        {% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}\
        ({{ c.function.arguments.city }}){% endfor %}{% endfor %}";
    let template = ChatTemplate::new(Some(source.into()), String::new(), String::new()).unwrap();
    assert!(template.finds_calls());
    let conversation = template.conversation(&turn()).unwrap();
    let tool = json!({"type": "function", "function": {"name": "<f>"}});
    let text = template.render(&conversation, &[tool]).unwrap();
    let shown = "{\"type\": \"function\", \"function\": {\"name\": \"<f>\"}}\n<tool_call>";
    assert_eq!(text, format!("{shown}[user]Weather?[assistant]get_weather(Rome)[tool]sunny"));
    assert_eq!(template.render(&conversation, &[]).unwrap().len(), text.len() - shown.len());
    let blind = ChatTemplate::new(Some("{{ messages }}".into()), String::new(), String::new()).unwrap();
    assert!(!blind.finds_calls());
    let told = blind.conversation(&turn()).unwrap();
    assert_eq!(told[1]["content"], json!("{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Rome\"}}"));
    assert_eq!((&told[2]["role"], &told[2]["content"]), (&json!("user"), &json!("sunny")));
}

/// A text through the finder in pieces of so many characters: content, calls, and why it ended.
fn found(text: &str, size: usize) -> (String, Vec<(String, String)>, &'static str) {
    let mut writer = Writer::Found(Finder::default());
    let chars: Vec<char> = text.chars().collect();
    let mut deltas = Vec::new();
    for piece in chars.chunks(size) {
        deltas.extend(writer.push(&piece.iter().collect::<String>()).unwrap());
    }
    let (last, reason) = writer.finish("stop");
    deltas.extend(last);
    let content = deltas.iter().filter_map(|delta| delta.content.clone()).collect();
    let calls = deltas.iter().filter_map(|delta| delta.rest.get("tool_calls")).enumerate().map(|(i, calls)| {
        assert_eq!(calls[0]["index"], json!(i));
        assert!(calls[0]["id"].is_string());
        let text = |name: &str| calls[0]["function"][name].as_str().unwrap().to_owned();
        (text("name"), text("arguments"))
    });
    (content, calls.collect(), reason)
}

#[test]
fn calls_are_found_however_the_text_comes() {
    let text = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n\
        <tool_call>{\"name\": \"g\"}</tool_call>\n";
    let calls = vec![("f".to_owned(), "{\"a\":1}".to_owned()), ("g".to_owned(), "{}".to_owned())];
    for size in [1, 2, 3, 7, 500] {
        assert_eq!(found(text, size), ("Let me see.\n".to_owned(), calls.clone(), "tool_calls"), "{size}");
        for plain in ["no call < here <tool_", "<tool_call>no JSON</tool_call> after", "<tool_call>{\"name\": \"cut"] {
            assert_eq!(found(plain, size), (plain.to_owned(), vec![], "stop"), "{size}");
        }
    }
}

#[tokio::test]
async fn text_goes_through_the_finder_unchanged() {
    // The toy was taught no calls: with a template that shows tools its text goes through the finder and stays text.
    let folder = Folder::of_demo();
    let path = folder.0.join("tokenizer_config.json");
    let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let template = settings["chat_template"].as_str().unwrap();
    let shown = format!("{template}{{# {{{{ tools }}}} <tool_call> #}}{{% if tools %}}{{% endif %}}");
    settings["chat_template"] = shown.into();
    std::fs::write(&path, settings.to_string()).unwrap();
    let shown = load(&folder.0);
    assert_eq!(shown.failures(), []);
    let request = with(ask("What is the capital of France?"), "tools", tools());
    let (choices, _) = whole(&shown, request).await.unwrap();
    assert_eq!((choices[0].text.as_str(), choices[0].reason.as_str()), ("The capital of France is Paris.", "stop"));
}
