//! The filters that make as much as a number in the template says: `indent`, `batch`, `slice`, `format`. Fuel does not count inside a filter,
//! and one number too large would take the server's memory.

use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters};

/// The largest such number: far above any answer file, far below any harm.
const MOST: usize = 10_000;

/// Puts bounded filters in the place of minijinja's own.
pub(super) fn add_filters(env: &mut Environment<'_>) {
    env.add_filter("indent", indent);
    env.add_filter("format", format);
    env.add_filter("batch", |state: &State<'_, '_>, value, count, fill| {
        filters::batch(state, value, bounded(count)?, fill)
    });
    env.add_filter("slice", |state: &State<'_, '_>, value, count, fill| {
        filters::slice(state, value, bounded(count)?, fill)
    });
}

fn bounded(count: usize) -> Result<usize, Error> {
    if count <= MOST {
        Ok(count)
    } else {
        // Said as the other limits are: the template makes too much.
        Err(Error::from(ErrorKind::OutOfFuel))
    }
}

fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<Value, Error> {
    bounded(width.unwrap_or(0))?;
    bounded(named.get::<Option<usize>>("width")?.unwrap_or(0))?;
    filters::indent(text, width, first, blank, named)
}

/// A width or precision stands in the text as digits, or as `*` among the values.
fn format(state: &mut State<'_, '_>, text: &Value, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let letters = text.as_str().unwrap_or("");
    for digits in letters.split(|c: char| !c.is_ascii_digit()) {
        bounded(if digits.is_empty() {
            0
        } else {
            digits.parse().unwrap_or(usize::MAX)
        })?;
    }
    if letters.contains('*') {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    filters::format(state, text, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(expression: &str) -> Result<String, ErrorKind> {
        let mut env = Environment::new();
        add_filters(&mut env);
        let compiled = env.compile_expression(expression).unwrap();
        compiled
            .eval(())
            .map(|value| value.to_string())
            .map_err(|error| error.kind())
    }

    #[test]
    fn a_number_out_of_all_proportion_is_refused_and_others_work() {
        for expression in [
            "'x'|indent(99999999999999)",
            "'x'|indent(width=99999999999999, first=true)",
            "[1]|batch(99999999999999, 0)",
            "[1]|slice(99999999999999)",
            "'%99999999999999d'|format(1)",
            "'%.18446744073709551616f'|format(1.5)",
            "'%*d'|format(99999999999999, 1)",
        ] {
            assert_eq!(eval(expression), Err(ErrorKind::OutOfFuel), "{expression}");
        }
        assert_eq!(eval("'a\nb'|indent(2)").unwrap(), "a\n  b");
        assert_eq!(eval("'a'|indent(width=2, first=true)").unwrap(), "  a");
        assert_eq!(eval("[1, 2, 3]|batch(2, 0)|list").unwrap(), "[[1, 2], [3, 0]]");
        assert_eq!(eval("[1, 2, 3]|slice(2)|list").unwrap(), "[[1, 2], [3]]");
        assert_eq!(eval("'%03d-%s'|format(7, 'x')").unwrap(), "007-x");
    }
}
