//! What a sidecar can be told: by an annotation of its pod, or for all pods of the mesh by a variable
//! of the sidecar's own. Read strictly in both, for a sidecar that does not start is a late answer.

use std::str::FromStr;

use crate::annotation::{
    ACCESS_LOG, DRAIN_TIMEOUT, EGRESS, INBOUND_PLAINTEXT, LOG_FORMAT, LOG_LEVEL, OTLP_ENDPOINT,
    TRACE_SAMPLE_RATIO,
};

/// What all of the sidecar's variables begin with.
const PREFIX: &str = "PILLION_";

/// The variable of where spans go.
pub(crate) const OTLP_VARIABLE: &str = "PILLION_OTLP_ENDPOINT";
/// The variable of what is done with plaintext.
pub(crate) const PLAINTEXT_VARIABLE: &str = "PILLION_INBOUND_PLAINTEXT";

/// One thing that a sidecar can be told.
pub(crate) struct Told {
    /// The annotation of a pod.
    pub(crate) annotation: &'static str,
    /// The sidecar's variable.
    pub(crate) variable: &'static str,
    /// Reads a value as the sidecar does.
    pub(crate) parse: fn(&str) -> Result<String, String>,
}

/// All of it, in the order in which a sidecar is told.
pub(crate) const TOLD: [Told; 8] = [
    told(LOG_LEVEL, "PILLION_LOG_LEVEL", log_level),
    told(LOG_FORMAT, "PILLION_LOG_FORMAT", |text| one_of(text, &["text", "json"])),
    told(ACCESS_LOG, "PILLION_ACCESS_LOG", |text| one_of(text, &["off", "errors", "all"])),
    told(OTLP_ENDPOINT, OTLP_VARIABLE, endpoint),
    told(TRACE_SAMPLE_RATIO, "PILLION_TRACE_SAMPLE_RATIO", share),
    told(INBOUND_PLAINTEXT, PLAINTEXT_VARIABLE, policy),
    told(EGRESS, "PILLION_EGRESS", policy),
    told(DRAIN_TIMEOUT, "PILLION_DRAIN_TIMEOUT", duration),
];

const fn told(
    annotation: &'static str,
    variable: &'static str,
    parse: fn(&str) -> Result<String, String>,
) -> Told {
    Told { annotation, variable, parse }
}

/// Variables of the sidecar with their values, as they are typed: `NAME=VALUE`, several with commas
/// between them. A comma that no further variable follows is part of a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(pub Vec<(&'static str, String)>);

impl FromStr for Variables {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut typed: Vec<String> = Vec::new();
        for part in text.split(',') {
            match typed.last_mut() {
                Some(last) if !part.trim_start().starts_with(PREFIX) => {
                    last.push(',');
                    last.push_str(part);
                }
                _ => typed.push(part.to_owned()),
            }
        }
        let typed = typed.iter().map(|one| one.trim()).filter(|one| !one.is_empty());
        typed.map(variable).collect::<Result<_, _>>().map(Self)
    }
}

fn variable(text: &str) -> Result<(&'static str, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    let known = || TOLD.iter().map(|told| told.variable);
    let Some(told) = TOLD.iter().find(|told| told.variable == name) else {
        let hint = daemon::settings::nearest(name, known()).map_or_else(
            || format!("; there are {}", known().collect::<Vec<_>>().join(", ")),
            |near| format!("; did you mean {near}?"),
        );
        return Err(format!("{name} is nothing that all sidecars can be told{hint}"));
    };
    let value = (told.parse)(value).map_err(|error| format!("{name}: {error}"))?;
    Ok((told.variable, value))
}

fn log_level(text: &str) -> Result<String, String> {
    match text.parse::<daemon::log::Filter>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{text:?} is no filter of a log: {error}")),
    }
}

fn one_of(text: &str, known: &[&str]) -> Result<String, String> {
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is none of {}", known.join(", ")))
}

fn policy(text: &str) -> Result<String, String> {
    match text {
        "allow" | "deny" => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is neither allow nor deny")),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match host.map(str::parse::<model::host::Authority>) {
        Some(Ok(authority)) if authority.port.is_some() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not http://HOST:PORT")),
    }
}

fn share(text: &str) -> Result<String, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no number from 0 to 1")),
    }
}

fn duration(text: &str) -> Result<String, String> {
    model::duration::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_beside_each_other_and_may_have_commas() {
        let text = "PILLION_LOG_LEVEL=info,proxy=debug, PILLION_ACCESS_LOG=errors,";
        let expected =
            [("PILLION_LOG_LEVEL", "info,proxy=debug"), ("PILLION_ACCESS_LOG", "errors,")];
        let read = |text: &str| text.parse::<Variables>();
        assert!(
            read(text).unwrap_err().contains(r#"PILLION_ACCESS_LOG: "errors," is none of off"#)
        );
        let owned = expected.map(|(name, value)| (name, value.trim_end_matches(',').to_owned()));
        assert_eq!(read(text.trim_end_matches(',')), Ok(Variables(owned.to_vec())));
        assert_eq!(read(""), Ok(Variables::default()));
    }

    #[test]
    fn what_a_sidecar_cannot_be_told_is_refused() {
        let cases = [
            ("PILLION_EGRESS", "\"PILLION_EGRESS\" is not NAME=VALUE"),
            ("PILLION_EGRES=deny", "did you mean PILLION_EGRESS?"),
            // What the injector itself says must stand.
            (
                "PILLION_REDIRECTED=false",
                "PILLION_REDIRECTED is nothing that all sidecars can be told",
            ),
            ("PILLION_EGRESS=no", "PILLION_EGRESS: \"no\" is neither allow nor deny"),
        ];
        for (text, reason) in cases {
            let error = text.parse::<Variables>().unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
