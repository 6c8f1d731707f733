//! Writes a value as canonical JSON in one pass, without a tree in between.
//!
//! The fields of an object are written as they come and put in order at its end, where they are not in order already. A tree of
//! values would cost an allocation for every field of every statement. Reading is absent.

use serde::ser::{self, Impossible, Serialize};

use super::CanonicalError;

impl ser::Error for CanonicalError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Json(message.to_string())
    }
}

type Written = Result<(), CanonicalError>;

/// Appends values to a buffer.
pub(super) struct Writer<'a> {
    pub out: &'a mut Vec<u8>,
}

/// An array that is being written.
pub(super) struct Items<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
    /// Whether the array is the value of a variant's own object, which is closed with it.
    wrapped: bool,
}

/// An object that is being written: each field with the comma before it, in the order in which they come.
pub(super) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    begin: usize,
    /// Each field's name, and where it begins.
    fields: Vec<(Name, usize)>,
    wrapped: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Static(&'static str),
    Owned(String),
}

impl Name {
    fn text(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Owned(text) => text,
        }
    }
}

/// `serde_json` escapes strings exactly as RFC 8785 §3.2.2.2 does: the two-letter forms, `\u00xx` in lower case,
/// nothing else.
fn text(out: &mut Vec<u8>, value: &str) -> Written {
    serde_json::to_writer(out, value).map_err(|e| CanonicalError::Json(e.to_string()))
}

fn integer(out: &mut Vec<u8>, value: impl Serialize) -> Written {
    serde_json::to_writer(out, &value).map_err(|e| CanonicalError::Json(e.to_string()))
}

impl<'a> Fields<'a> {
    fn begin(out: &'a mut Vec<u8>, wrapped: bool) -> Self {
        let begin = out.len();
        Self { out, begin, fields: Vec::with_capacity(8), wrapped }
    }

    fn name(&mut self, name: Name) -> Written {
        if !name.text().is_ascii() {
            return Err(CanonicalError::Key(name.text().to_owned()));
        }
        self.fields.push((name, self.out.len()));
        self.out.push(b',');
        text(self.out, self.fields.last().map_or("", |(name, _)| name.text()))?;
        self.out.push(b':');
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
        self.name(Name::Static(name))?;
        value.serialize(Writer { out: self.out })
    }

    fn close(mut self) -> Written {
        let in_order = self.fields.windows(2).all(|pair| match pair {
            [(one, _), (next, _)] => one.text() < next.text(),
            _ => true,
        });
        if !in_order {
            self.put_in_order()?;
        }
        match self.out.get_mut(self.begin) {
            // The first field's comma becomes the brace.
            Some(first) => *first = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
        if self.wrapped {
            self.out.push(b'}');
        }
        Ok(())
    }

    fn put_in_order(&mut self) -> Written {
        let ends = self.fields.iter().skip(1).map(|(_, begin)| *begin).chain([self.out.len()]);
        let mut ranges: Vec<(&Name, std::ops::Range<usize>)> =
            self.fields.iter().zip(ends).map(|((name, begin), end)| (name, *begin..end)).collect();
        ranges.sort_by(|one, other| one.0.text().cmp(other.0.text()));
        let twice = ranges.windows(2).find(|pair| matches!(pair, [one, next] if one.0.text() == next.0.text()));
        if let Some([(name, _), ..]) = twice {
            return Err(CanonicalError::Json(format!("the field `{}` stands there twice", name.text())));
        }
        let mut sorted = Vec::with_capacity(self.out.len().saturating_sub(self.begin));
        ranges
            .into_iter()
            .filter_map(|(_, range)| self.out.get(range))
            .for_each(|piece| sorted.extend_from_slice(piece));
        self.out.truncate(self.begin);
        self.out.extend_from_slice(&sorted);
        Ok(())
    }
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        value.serialize(Writer { out: self.out })
    }

    fn close(self) -> Written {
        self.out.extend_from_slice(if self.wrapped { b"]}" } else { b"]" });
        Ok(())
    }
}

macro_rules! integers {
    ($($name:ident $kind:ty),*) => {$(
        fn $name(self, value: $kind) -> Written {
            integer(self.out, value)
        }
    )*};
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = CanonicalError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Fields<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    integers! {
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64
    }

    fn serialize_bool(self, value: bool) -> Written {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Written {
        Err(CanonicalError::Fraction(value.to_string()))
    }

    fn serialize_f64(self, value: f64) -> Written {
        Err(CanonicalError::Fraction(value.to_string()))
    }

    fn serialize_char(self, value: char) -> Written {
        text(self.out, value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Written {
        text(self.out, value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        value.serialize(self)
    }

    fn serialize_none(self) -> Written {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        text(self.out, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        let mut fields = Fields::begin(self.out, false);
        fields.field(variant, value)?;
        fields.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, CanonicalError> {
        self.out.push(b'[');
        Ok(Items { out: self.out, empty: true, wrapped: false })
    }

    fn serialize_tuple(self, count: usize) -> Result<Items<'a>, CanonicalError> {
        self.serialize_seq(Some(count))
    }

    fn serialize_tuple_struct(self, _: &'static str, count: usize) -> Result<Items<'a>, CanonicalError> {
        self.serialize_seq(Some(count))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a>, CanonicalError> {
        self.out.push(b'{');
        text(self.out, variant)?;
        self.out.extend_from_slice(b":[");
        Ok(Items { out: self.out, empty: true, wrapped: true })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields<'a>, CanonicalError> {
        Ok(Fields::begin(self.out, false))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, CanonicalError> {
        Ok(Fields::begin(self.out, false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, CanonicalError> {
        self.out.push(b'{');
        text(self.out, variant)?;
        self.out.push(b':');
        Ok(Fields::begin(self.out, true))
    }
}

macro_rules! items {
    ($($kind:ident $method:ident),*) => {$(
        impl ser::$kind for Items<'_> {
            type Ok = ();
            type Error = CanonicalError;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                self.item(value)
            }
            fn end(self) -> Written {
                self.close()
            }
        }
    )*};
}

items! {
    SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field
}

macro_rules! fields {
    ($($kind:ident),*) => {$(
        impl ser::$kind for Fields<'_> {
            type Ok = ();
            type Error = CanonicalError;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
                self.field(name, value)
            }
            fn end(self) -> Written {
                self.close()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant }

impl ser::SerializeMap for Fields<'_> {
    type Ok = ();
    type Error = CanonicalError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        let key = key.serialize(Key)?;
        self.name(Name::Owned(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(Writer { out: self.out })
    }

    fn end(self) -> Written {
        self.close()
    }
}

/// A map's key as text: strings, and integers and unit variants as `serde_json` writes them.
struct Key;

fn no_key<T>() -> Result<T, CanonicalError> {
    Err(CanonicalError::Json("a key must be a string".to_owned()))
}

macro_rules! integer_keys {
    ($($name:ident $kind:ty),*) => {$(
        fn $name(self, value: $kind) -> Result<String, CanonicalError> {
            Ok(value.to_string())
        }
    )*};
}

macro_rules! no_keys {
    ($($name:ident ($($kind:ty),*) $out:ty),* $(,)?) => {$(
        fn $name(self, $(_: $kind),*) -> Result<$out, CanonicalError> {
            no_key()
        }
    )*};
}

impl ser::Serializer for Key {
    type Ok = String;
    type Error = CanonicalError;
    type SerializeSeq = Impossible<String, CanonicalError>;
    type SerializeTuple = Impossible<String, CanonicalError>;
    type SerializeTupleStruct = Impossible<String, CanonicalError>;
    type SerializeTupleVariant = Impossible<String, CanonicalError>;
    type SerializeMap = Impossible<String, CanonicalError>;
    type SerializeStruct = Impossible<String, CanonicalError>;
    type SerializeStructVariant = Impossible<String, CanonicalError>;

    integer_keys! {
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_char char
    }

    fn serialize_str(self, value: &str) -> Result<String, CanonicalError> {
        Ok(value.to_owned())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<String, CanonicalError> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, CanonicalError> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<String, CanonicalError> {
        no_key()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, CanonicalError> {
        no_key()
    }

    no_keys! {
        serialize_bool(bool) String, serialize_f32(f32) String, serialize_f64(f64) String, serialize_bytes(&[u8]) String,
        serialize_none() String, serialize_unit() String, serialize_unit_struct(&'static str) String,
        serialize_seq(Option<usize>) Self::SerializeSeq, serialize_tuple(usize) Self::SerializeTuple,
        serialize_tuple_struct(&'static str, usize) Self::SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) Self::SerializeTupleVariant,
        serialize_map(Option<usize>) Self::SerializeMap, serialize_struct(&'static str, usize) Self::SerializeStruct,
        serialize_struct_variant(&'static str, u32, &'static str, usize) Self::SerializeStructVariant,
    }
}
