//! XML-RPC: any bytes are a call or a reason, never more; what is read is written and read back as the same.

use cordwainer::xmlrpc::decode::{Limits, answer, call};
use cordwainer::xmlrpc::{Value, encode};

pub fn run(bytes: &[u8]) {
    if let Ok(read) = call(bytes, Limits::CALL) {
        assert!(read.method.len() <= 1024);
        read.arguments.iter().for_each(|value| bounded(value, 1));
        let sayable = read.method.chars().all(|c| !c.is_control()) && read.arguments.iter().all(survives);
        if sayable && read.method.trim() == read.method {
            let written = encode::call(&read.method, &read.arguments);
            assert_eq!(call(written.as_bytes(), Limits::CALL), Ok(read), "{written}");
        }
    }
    if let Ok(Ok(value)) = answer(bytes, Limits::CALL)
        && survives(&value)
    {
        let written = encode::answer(&value);
        assert_eq!(answer(written.as_bytes(), Limits::CALL), Ok(Ok(value)), "{written}");
    }
    if let Ok(Err(fault)) = answer(bytes, Limits::CALL) {
        assert!(fault.len() <= bytes.len() * 2);
    }
}

fn bounded(value: &Value, depth: usize) {
    assert!(depth <= Limits::CALL.depth, "deeper than may be");
    match value {
        Value::Array(items) => items.iter().for_each(|item| bounded(item, depth + 1)),
        Value::Struct(members) => members.values().for_each(|member| bounded(member, depth + 1)),
        _ => {}
    }
}

/// Nil is written as Cobbler writes it, control characters are left out, and no number is unequal to itself but one.
fn survives(value: &Value) -> bool {
    let plain = |text: &str| {
        text.chars()
            .all(|c| (!c.is_control() || "\r\n\t".contains(c)) && !matches!(c, '\u{fffe}' | '\u{ffff}'))
    };
    match value {
        Value::Nil => false,
        Value::Double(number) => number.is_finite(),
        Value::Text(text) => plain(text),
        Value::Time(text) => plain(text) && text.trim() == text && text.len() <= 64,
        Value::Array(items) => items.iter().all(survives),
        Value::Struct(members) => members.iter().all(|(name, member)| plain(name) && survives(member)),
        Value::Bool(_) | Value::Int(_) | Value::Bytes(_) => true,
    }
}
