//! BSON values of every type, made of a fuzzer's choices without the `bson` crate, and their bytes.

#[derive(Clone, Debug)]
pub enum Value {
    MinKey,
    Undefined,
    Null,
    Int32(i32),
    Int64(i64),
    Double(f64),
    Decimal,
    Text(String),
    Symbol(String),
    Object(Fields),
    Array(Vec<Value>),
    Binary(u8, Vec<u8>),
    ObjectId([u8; 12]),
    Boolean(bool),
    Date(i64),
    Timestamp(u32, u32),
    Regex(String, String),
    DbPointer(String, [u8; 12]),
    Code(String),
    CodeWithScope(String, Fields),
    MaxKey,
}

pub type Fields = Vec<(String, Value)>;

use Value::*;

impl Value {
    pub fn has_decimal(&self) -> bool {
        match self {
            Decimal => true,
            Object(fields) | CodeWithScope(_, fields) => {
                fields.iter().any(|(_, value)| value.has_decimal())
            }
            Array(elements) => elements.iter().any(Value::has_decimal),
            _ => false,
        }
    }

    /// Its type byte.
    fn kind(&self) -> u8 {
        match self {
            MinKey => 0xFF,
            Undefined => 0x06,
            Null => 0x0A,
            Int32(_) => 0x10,
            Int64(_) => 0x12,
            Double(_) => 0x01,
            Decimal => 0x13,
            Text(_) => 0x02,
            Symbol(_) => 0x0E,
            Object(_) => 0x03,
            Array(_) => 0x04,
            Binary(..) => 0x05,
            ObjectId(_) => 0x07,
            Boolean(_) => 0x08,
            Date(_) => 0x09,
            Timestamp(..) => 0x11,
            Regex(..) => 0x0B,
            DbPointer(..) => 0x0C,
            Code(_) => 0x0D,
            CodeWithScope(..) => 0x0F,
            MaxKey => 0x7F,
        }
    }
}

const TEXT: &[char] = &['a', 'b', '\0', '\u{1}', '\u{7F}', 'é', '\u{FFFD}', '\u{10FFFF}'];
const NAME: &[char] = &['a', 'b', '\u{1}', '\u{7F}', '\u{10FFFF}'];
const MAX_DEPTH: u8 = 4;

/// The input, taken as choices; zeros where it has ended.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let count = N.min(self.0.len());
        bytes[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        bytes
    }

    fn count(&mut self, most: u8) -> usize {
        (self.byte() % (most + 1)).into()
    }

    /// Of few characters, so that two texts often share a beginning.
    fn text(&mut self, characters: &[char]) -> String {
        (0..self.count(5))
            .map(|_| characters[usize::from(self.byte()) % characters.len()])
            .collect()
    }

    pub fn value(&mut self, depth: u8) -> Value {
        match self.byte() % 26 {
            0 => MinKey,
            1 => Undefined,
            2 => Null,
            3 => Int32(i32::from_le_bytes(self.bytes())),
            4 => Int32(i8::from_le_bytes(self.bytes()).into()),
            5 => Int64(i64::from_le_bytes(self.bytes())),
            6 => Int64(self.near_power()),
            7 => Double(f64::from_bits(u64::from_le_bytes(self.bytes()))),
            8 => Double(self.near_power() as f64),
            9 => Double(f64::from(i16::from_le_bytes(self.bytes())) / 4.0),
            10 if self.byte() == 0 => Decimal,
            10 => Double(f64::from_bits(u64::from_le_bytes(self.bytes()) & 0x801F_FFFF_FFFF_FFFF)),
            11 => Text(self.text(TEXT)),
            12 => Symbol(self.text(TEXT)),
            13 => Binary(self.byte(), (0..self.count(5)).map(|_| self.byte()).collect()),
            14 => Binary(self.byte() % 3, (0..self.count(9)).map(|_| self.byte()).collect()),
            15 => ObjectId(self.bytes()),
            16 => Boolean(self.byte() % 2 == 0),
            17 => Date(i64::from_le_bytes(self.bytes())),
            18 => Timestamp(u32::from_le_bytes(self.bytes()), u32::from_le_bytes(self.bytes())),
            19 => Regex(self.text(NAME), self.text(&['i', 'm', 's'])),
            20 => DbPointer(self.text(NAME), self.bytes()),
            21 => Code(self.text(TEXT)),
            22 => CodeWithScope(self.text(TEXT), self.fields(depth)),
            23 => MaxKey,
            24 => Object(self.fields(depth)),
            _ => Array(self.fields(depth).into_iter().map(|(_, value)| value).collect()),
        }
    }

    fn fields(&mut self, depth: u8) -> Fields {
        let count = if depth < MAX_DEPTH { self.count(3) } else { 0 };
        (0..count).map(|_| (self.text(NAME), self.value(depth + 1))).collect()
    }

    /// Where integers and doubles part.
    fn near_power(&mut self) -> i64 {
        let [power, offset] = self.bytes();
        let value = 1_i64.wrapping_shl(power.into()).wrapping_add(i64::from(offset as i8) / 16);
        if power >= 128 { value.wrapping_neg() } else { value }
    }

    /// A value that is hard to tell from `value`, or equal to it.
    pub fn relative(&mut self, value: &Value) -> Value {
        let choice = self.byte();
        match value.clone() {
            Int32(integer) if choice % 2 == 0 => Double(integer.into()),
            Int32(integer) => Int64(i64::from(integer) + i64::from(choice % 3) - 1),
            Int64(integer) if choice % 3 == 0 => {
                i32::try_from(integer).map_or(Int64(integer), Int32)
            }
            Int64(integer) => Double(f64::from_bits(
                (integer as f64).to_bits().wrapping_add_signed((choice % 3) as i64 - 1),
            )),
            Double(double) if choice % 2 == 0 => Int64(double as i64),
            Double(double) => Double(f64::from_bits(
                double.to_bits().wrapping_add_signed((choice % 5) as i64 - 2),
            )),
            Text(text) if choice % 2 == 0 => Symbol(text),
            Text(text) => Text(self.longer(text)),
            Symbol(text) => Text(self.longer(text)),
            Code(text) => Code(self.longer(text)),
            Binary(subtype, mut bytes) => {
                bytes.resize(bytes.len() + self.count(4), 0);
                Binary(if choice % 2 == 0 { subtype } else { choice % 4 }, bytes)
            }
            Object(fields) => Object(self.relative_fields(fields)),
            CodeWithScope(code, scope) => CodeWithScope(code, self.relative_fields(scope)),
            Array(mut elements) => {
                match elements.last_mut() {
                    Some(last) if choice % 2 == 0 => *last = self.relative(last),
                    _ => elements.push(self.value(MAX_DEPTH)),
                }
                Array(elements)
            }
            Date(millis) => Date(millis.wrapping_add(i64::from(choice as i8))),
            Timestamp(time, increment) => Timestamp(increment, time),
            Regex(pattern, options) => Regex(options, pattern),
            DbPointer(namespace, id) => {
                DbPointer(namespace + NAME[usize::from(choice) % 2].to_string().as_str(), id)
            }
            other => other,
        }
    }

    fn longer(&mut self, text: String) -> String {
        text + &self.text(TEXT)
    }

    fn relative_fields(&mut self, mut fields: Fields) -> Fields {
        match fields.last_mut() {
            Some((_, last)) if self.byte() % 2 == 0 => *last = self.relative(last),
            _ => fields.push((self.text(NAME), self.value(MAX_DEPTH))),
        }
        fields
    }
}

/// The BSON of an object.
pub fn document(fields: Fields) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_fields(&fields, &mut bytes);
    bytes
}

fn append_element(name: &str, value: &Value, out: &mut Vec<u8>) {
    out.push(value.kind());
    append_c_string(name, out);
    match value {
        MinKey | Undefined | Null | MaxKey => {}
        Int32(integer) => out.extend(integer.to_le_bytes()),
        Int64(integer) | Date(integer) => out.extend(integer.to_le_bytes()),
        Double(double) => out.extend(double.to_le_bytes()),
        Decimal => out.extend([0; 16]),
        Text(text) | Symbol(text) | Code(text) => append_text(text, out),
        Object(fields) => append_fields(fields, out),
        Array(elements) => {
            let start = begin(out);
            for (index, element) in elements.iter().enumerate() {
                append_element(&index.to_string(), element, out);
            }
            finish(out, start);
        }
        Binary(subtype, bytes) => {
            out.extend((bytes.len() as i32 + if *subtype == 2 { 4 } else { 0 }).to_le_bytes());
            out.push(*subtype);
            if *subtype == 2 {
                out.extend((bytes.len() as i32).to_le_bytes());
            }
            out.extend(bytes);
        }
        ObjectId(id) => out.extend(id),
        Boolean(boolean) => out.push((*boolean).into()),
        Timestamp(time, increment) => {
            out.extend(increment.to_le_bytes());
            out.extend(time.to_le_bytes());
        }
        Regex(pattern, options) => {
            append_c_string(pattern, out);
            append_c_string(options, out);
        }
        DbPointer(namespace, id) => {
            append_text(namespace, out);
            out.extend(id);
        }
        CodeWithScope(code, scope) => {
            let start = begin(out);
            append_text(code, out);
            append_fields(scope, out);
            set_length(out, start);
        }
    }
}

fn append_fields(fields: &Fields, out: &mut Vec<u8>) {
    let start = begin(out);
    for (name, value) in fields {
        append_element(name, value, out);
    }
    finish(out, start);
}

fn append_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as i32 + 1).to_le_bytes());
    append_c_string(text, out);
}

fn append_c_string(text: &str, out: &mut Vec<u8>) {
    out.extend(text.as_bytes());
    out.push(0);
}

fn begin(out: &mut Vec<u8>) -> usize {
    out.extend([0; 4]);
    out.len() - 4
}

fn finish(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    set_length(out, start);
}

fn set_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as i32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}
