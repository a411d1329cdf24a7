//! Byte strings in JSON, which only has text.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::ser::SerializeMap;

/// Puts a byte string into an object: as text under `name`, or, when it is not UTF-8, in base64
/// under `name_b64`. What is absent is `null` under `name`.
pub fn bytes<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    name_b64: &'static str,
    value: Option<&[u8]>,
) -> Result<(), M::Error> {
    match value.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        Some(Err(bytes)) => map.serialize_entry(name_b64, &BASE64_STANDARD.encode(bytes)),
        Some(Ok(text)) => map.serialize_entry(name, text),
        None => map.serialize_entry(name, &()),
    }
}
