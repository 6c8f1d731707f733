//! Tests of the gateway's reading and writing without a network: bodies, parameters, labels, and answers put together.

use axum::body::Body;
use axum::response::IntoResponse as _;
use http::{HeaderMap, HeaderValue, StatusCode};
use polder_core::labels::{DataClass, Labels, Purpose};
use serde_json::{Value, json};

use super::ApiError;
use super::body::{DEPTH_MAX, Parameters, read_object};
use super::labels::labels;

const LIMIT: usize = 1 << 16;

async fn read(body: impl Into<Body>) -> Result<serde_json::Map<String, Value>, ApiError> {
    read_object(&HeaderMap::new(), body.into(), LIMIT).await
}

async fn refused(body: impl Into<Body>) -> (StatusCode, Value) {
    let error = read(body).await.unwrap_err();
    let body = error.body();
    (error.into_response().status(), body)
}

fn nested(levels: usize) -> String {
    format!("{{\"messages\":{}{}}}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn bodies_are_bounded_objects_of_bounded_depth() {
    assert!(read("{\"a\": [1, {\"b\": \"]]]]\\\"[\"}]}").await.is_ok());
    assert!(read(nested(DEPTH_MAX - 1)).await.is_ok());
    let (status, body) = refused(nested(DEPTH_MAX)).await;
    assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("messages")));
    for bad in ["", "[]", "{\"a\":", "null", "{\"a\":1}x"] {
        assert_eq!(refused(bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(refused(vec![b'{', b'"', 0xff, b'"', b'}']).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(refused(vec![b' '; LIMIT + 1]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_declared_length_is_refused_before_the_body_is_read() {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, HeaderValue::from_static("99999999"))]);
    let never = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let error = read_object(&headers, Body::from_stream(never), LIMIT).await.unwrap_err();
    assert_eq!(error.into_response().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn errors_never_quote_the_body() {
    let (_, body) = refused("{\"secret-canary\": tru}").await;
    assert!(!body.to_string().contains("canary"), "{body}");
}

#[test]
fn parameters_of_a_wrong_type_are_named() {
    let Value::Object(object) = json!({"n": "1", "temperature": 3, "stop": [1], "stream": "yes", "seed": null}) else {
        panic!("an object was written")
    };
    let mut parameters = Parameters(object);
    let named = |error: ApiError| error.body()["error"]["param"].clone();
    assert_eq!(named(parameters.integer("n", 1).unwrap_err()), "n");
    assert_eq!(named(parameters.number("temperature", 0.0..=2.0).unwrap_err()), "temperature");
    assert_eq!(named(parameters.texts("stop", 4).unwrap_err()), "stop");
    assert_eq!(named(parameters.flag("stream").unwrap_err()), "stream");
    assert_eq!(named(parameters.text("model").unwrap_err()), "model");
    assert_eq!(parameters.integer("seed", 0).unwrap(), None);
}

fn project() -> Labels {
    Labels {
        class: DataClass::Internal,
        purposes: [Purpose::Finance, Purpose::Research].into(),
        countries: None,
        language: None,
    }
}

fn metadata(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

#[test]
fn labels_come_from_headers_and_metadata_and_only_narrow() {
    let headers =
        HeaderMap::from_iter([(http::HeaderName::from_static("polder-class"), HeaderValue::from_static("customer"))]);
    let mut both = metadata(json!({"polder.purpose": "finance", "other": "stays"}));
    let narrowed = labels(&project(), &headers, &mut both).unwrap();
    assert_eq!((narrowed.class, narrowed.purposes.len()), (DataClass::Customer, 1));
    assert_eq!(both, metadata(json!({"other": "stays"})), "labels never travel on");
    for bad in [
        json!({"polder.class": "public"}),
        json!({"polder.class": "secret"}),
        json!({"polder.purpose": "defence"}),
        json!({"polder.colour": "blue"}),
        json!({"polder.class": 3}),
    ] {
        let error = labels(&project(), &HeaderMap::new(), &mut metadata(bad.clone())).unwrap_err();
        assert_eq!(error.into_response().status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[test]
fn a_label_given_twice_in_one_source_is_refused() {
    let mut headers = HeaderMap::new();
    headers.append("polder-class", HeaderValue::from_static("customer"));
    headers.append("polder-class", HeaderValue::from_static("restricted"));
    assert!(labels(&project(), &headers, &mut metadata(json!({}))).is_err());
}
