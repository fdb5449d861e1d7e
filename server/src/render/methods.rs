//! The methods of Python's strings, lists and dictionaries that templates written for Cobbler call.

use minijinja::value::{Rest, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Calls `value.method(args)`.
///
/// # Errors
/// `UnknownMethod` for a method that is not here.
pub(super) fn call(_: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string(value.as_str().unwrap_or(""), method, args),
        ValueKind::Map => map(value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let trimmed = |args: &[Value]| -> Result<Option<String>, Error> {
        let (set,): (Option<String>,) = from_args(args)?;
        Ok(set)
    };
    Ok(match method {
        "startswith" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.starts_with(prefix).into()
        }
        "endswith" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.ends_with(suffix).into()
        }
        "lower" => text.to_lowercase().into(),
        "upper" => text.to_uppercase().into(),
        "capitalize" => {
            let mut chars = text.chars();
            let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            format!("{first}{}", chars.as_str().to_lowercase()).into()
        }
        "isdigit" => (!text.is_empty() && text.chars().all(char::is_numeric)).into(),
        "strip" => match trimmed(args)? {
            None => text.trim().into(),
            Some(set) => text.trim_matches(|c| set.contains(c)).into(),
        },
        "lstrip" => match trimmed(args)? {
            None => text.trim_start().into(),
            Some(set) => text.trim_start_matches(|c| set.contains(c)).into(),
        },
        "rstrip" => match trimmed(args)? {
            None => text.trim_end().into(),
            Some(set) => text.trim_end_matches(|c| set.contains(c)).into(),
        },
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            // An empty pattern would put `to` between all characters: no template means that, and it multiplies the text.
            if from.is_empty() {
                text.into()
            } else {
                text.replace(from, to).into()
            }
        }
        "split" => {
            let (separator, most): (Option<&str>, Option<usize>) = from_args(args)?;
            let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
            match separator {
                None => text.split_whitespace().map(Value::from).collect(),
                Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
                Some(separator) => text.splitn(most, separator).map(Value::from).collect(),
            }
        }
        "join" => {
            let (list,): (Value,) = from_args(args)?;
            let items: Vec<String> = list.try_iter()?.map(|item| item.to_string()).collect();
            items.join(text).into()
        }
        "find" => {
            let (what,): (&str,) = from_args(args)?;
            text.find(what)
                .and_then(|at| text.get(..at))
                .and_then(|before| i64::try_from(before.chars().count()).ok())
                .map_or_else(|| Value::from(-1), Value::from)
        }
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            text.matches(what).count().into()
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn map(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "keys" => none(args).and_then(|()| Ok(value.try_iter()?.collect())),
        "values" | "items" => {
            none(args)?;
            let mut out = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                out.push(if method == "items" {
                    Value::from(vec![key, item])
                } else {
                    item
                });
            }
            Ok(Value::from(out))
        }
        "get" => {
            let (key, fallback): (Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() {
                fallback.unwrap_or_else(|| Value::from(()))
            } else {
                found
            })
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn none(args: &[Value]) -> Result<(), Error> {
    let (rest,): (Rest<Value>,) = from_args(args)?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Error::from(ErrorKind::TooManyArguments))
    }
}
