//! `${NAME}` in a file's values: secrets stay in the worker's environment.

/// Puts the environment's values in place of `${NAME}`. A lone `$` stays as it is.
///
/// # Errors
/// What is wrong, for after a field's name: ``names `${X}`, which is not set …``.
pub(super) fn expand(text: &str) -> Result<String, String> {
    expand_with(text, |name| std::env::var(name).ok())
}

fn expand_with(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        result.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err("has `${` without `}`, expected `${NAME}`".to_owned());
        };
        let value = lookup(name).ok_or_else(|| {
            format!("names `${{{name}}}`, expected a variable of the worker's environment")
        })?;
        result.push_str(&value);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_and_missing_ones_named() {
        let lookup = |name: &str| (name == "TOKEN").then(|| "a${b".to_owned());
        let expand = |text| expand_with(text, lookup);
        assert_eq!(expand("Bearer ${TOKEN}, $5").unwrap(), "Bearer a${b, $5");
        assert!(expand("${OTHER}").unwrap_err().contains("`${OTHER}`"));
        assert!(expand("${TOKEN").unwrap_err().contains("without `}`"));
    }
}
