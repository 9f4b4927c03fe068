//! What a pod asks for: its annotations, each read strictly. One that is silently not in force is
//! worse than a pod that is not made.

use std::collections::BTreeMap;
use std::str::FromStr;

use redirect::settings::{Ports, Subnets};

use crate::annotation::{
    CPU_LIMIT, CPU_REQUEST, KNOWN, MEMORY_LIMIT, MEMORY_REQUEST, PREFIX, SKIP_INBOUND_PORTS,
    SKIP_INBOUND_SUBNETS, SKIP_OUTBOUND_PORTS, SKIP_OUTBOUND_SUBNETS, field,
};
use crate::outcome::Fault;
use crate::quantity::Quantity;
use crate::settings::Resources;
use crate::variable::{PLAINTEXT_VARIABLE, TOLD, Variables};

/// The most CPUs that can be workers (`--workers`).
const MOST_CPUS: u128 = 256;

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Flags of the init container.
    pub(crate) rules: Vec<String>,
    /// Environment variables of the sidecar.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// What the sidecar asks of the node.
    pub(crate) resources: Resources,
    /// Whether what comes without the mesh is refused.
    pub(crate) is_strict: bool,
}

impl Wishes {
    /// Reads the annotations of a pod; `standard` and `of_all` are for what they do not say.
    ///
    /// # Errors
    /// Every annotation that says what cannot be, or that nobody knows.
    pub(crate) fn read(
        annotations: &BTreeMap<String, String>,
        standard: &Resources,
        of_all: &Variables,
    ) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { annotations, faults: Vec::new() };
        reader.refuse_unknown();
        let rules = reader.rules();
        let variables = reader.variables(of_all);
        let resources = reader.resources(standard);
        let is_strict = variables.contains(&(PLAINTEXT_VARIABLE, "deny".to_owned()));
        match reader.faults {
            faults if faults.is_empty() => Ok(Self { rules, variables, resources, is_strict }),
            faults => Err(faults),
        }
    }
}

/// The annotations of one pod, and what is wrong with them.
struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// What `parse` makes of an annotation, if the pod has it and it is good.
    fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.annotations.get(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.faults.push(Fault::new(field(name), message));
                None
            }
        }
    }

    fn refuse_unknown(&mut self) {
        let unknown = |name: &&String| name.starts_with(PREFIX) && !KNOWN.contains(&name.as_str());
        for name in self.annotations.keys().filter(unknown) {
            let hint = daemon::settings::nearest(name, KNOWN)
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            self.faults.push(Fault::new(field(name), format!("unknown annotation{hint}")));
        }
    }

    /// The annotations that the init container obeys, as its flags.
    fn rules(&mut self) -> Vec<String> {
        let lists = [
            (SKIP_INBOUND_PORTS, "--exclude-inbound-ports", ports as fn(&str) -> _),
            (SKIP_OUTBOUND_PORTS, "--exclude-outbound-ports", ports),
            (SKIP_INBOUND_SUBNETS, "--exclude-inbound-subnets", subnets),
            (SKIP_OUTBOUND_SUBNETS, "--exclude-outbound-subnets", subnets),
        ];
        let given = lists.into_iter().filter_map(|(name, flag, parse)| {
            let list: String = self.parsed(name, parse)?;
            (!list.is_empty()).then(|| format!("{flag}={list}"))
        });
        given.collect()
    }

    /// The annotations that the sidecar obeys, as its variables; `of_all` is for what they do not
    /// say.
    fn variables(&mut self, of_all: &Variables) -> Vec<(&'static str, String)> {
        let of_all = |name| of_all.0.iter().rfind(|(known, _)| *known == name);
        let given = TOLD.iter().filter_map(|told| {
            let own = self.parsed(told.annotation, told.parse);
            Some((told.variable, own.or_else(|| Some(of_all(told.variable)?.1.clone()))?))
        });
        given.collect()
    }

    fn resources(&mut self, standard: &Resources) -> Resources {
        let cpu_limit = self.parsed(CPU_LIMIT, cpus);
        let cpu_request = self.parsed(CPU_REQUEST, cpus);
        let memory_limit = self.parsed(MEMORY_LIMIT, quantity);
        let memory_request = self.parsed(MEMORY_REQUEST, quantity);
        let (cpu_request, cpu_limit) = self.fit(
            (CPU_REQUEST, cpu_request, &standard.cpu_request),
            (CPU_LIMIT, cpu_limit, standard.cpu_limit.as_ref()),
        );
        let (memory_request, memory_limit) = self.fit(
            (MEMORY_REQUEST, memory_request, &standard.memory_request),
            (MEMORY_LIMIT, memory_limit, standard.memory_limit.as_ref()),
        );
        Resources { cpu_request, cpu_limit, memory_request, memory_limit }
    }

    /// A request and a limit, which the request is not above: of two, one of which is only the
    /// standard, that one gives way.
    fn fit(
        &mut self,
        request: (&str, Option<Quantity>, &Quantity),
        limit: (&str, Option<Quantity>, Option<&Quantity>),
    ) -> (Quantity, Option<Quantity>) {
        let (request_name, asked, standard_request) = request;
        let (limit_name, asked_limit, standard_limit) = limit;
        let above =
            |request: &Quantity, limit: &Quantity| request.thousandths() > limit.thousandths();
        match (asked, asked_limit, standard_limit) {
            (Some(request), Some(limit), _) => {
                if above(&request, &limit) {
                    let message = format!("{request} is more than {limit_name}, {limit}");
                    self.faults.push(Fault::new(field(request_name), message));
                }
                (request, Some(limit))
            }
            (None, Some(limit), _) if above(standard_request, &limit) => {
                (limit.clone(), Some(limit))
            }
            (Some(request), None, Some(limit)) if above(&request, limit) => {
                (request.clone(), Some(request))
            }
            (asked, asked_limit, standard_limit) => (
                asked.unwrap_or_else(|| standard_request.clone()),
                asked_limit.or_else(|| standard_limit.cloned()),
            ),
        }
    }
}

fn ports(text: &str) -> Result<String, String> {
    Ok(joined(&parse::<Ports>(text)?.0))
}

fn subnets(text: &str) -> Result<String, String> {
    Ok(joined(&parse::<Subnets>(text)?.0))
}

fn joined<T: ToString>(entries: &[T]) -> String {
    entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn quantity(text: &str) -> Result<Quantity, String> {
    parse(text)
}

fn cpus(text: &str) -> Result<Quantity, String> {
    let cpus = quantity(text)?;
    if cpus.thousandths() > MOST_CPUS * 1000 {
        return Err(format!(
            "{text:?} is too many CPUs for a sidecar; it has {MOST_CPUS} workers at most"
        ));
    }
    Ok(cpus)
}

fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotation::{
        ACCESS_LOG, DRAIN_TIMEOUT, EGRESS, INBOUND_PLAINTEXT, LOG_FORMAT, LOG_LEVEL, OTLP_ENDPOINT,
        TRACE_SAMPLE_RATIO,
    };

    fn read(annotations: &[(&str, &str)]) -> Result<Wishes, Vec<String>> {
        read_in(annotations, "")
    }

    /// In a mesh whose sidecars are all told something.
    fn read_in(annotations: &[(&str, &str)], of_all: &str) -> Result<Wishes, Vec<String>> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let annotations = annotations.iter().map(owned).collect();
        Wishes::read(&annotations, &Resources::standard(), &of_all.parse().unwrap())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_annotations_all_is_standard() {
        let wishes = read(&[("example.org/egress", "x")]).unwrap();
        let resources = Resources::standard();
        assert_eq!(
            wishes,
            Wishes { rules: vec![], variables: vec![], resources, is_strict: false }
        );
    }

    #[test]
    fn good_annotations_become_flags_and_variables() {
        let wishes = read(&[
            (SKIP_INBOUND_PORTS, "22, 9100,22"),
            (SKIP_OUTBOUND_PORTS, ""),
            (SKIP_OUTBOUND_SUBNETS, "10.0.0.0/8,fd00::7"),
            (LOG_LEVEL, "info,proxy=debug"),
            (INBOUND_PLAINTEXT, "deny"),
            (EGRESS, "allow"),
            (DRAIN_TIMEOUT, "1m30s"),
            (LOG_FORMAT, "json"),
            (ACCESS_LOG, "errors"),
            (OTLP_ENDPOINT, "http://collector:4317"),
            (TRACE_SAMPLE_RATIO, "0.1"),
        ])
        .unwrap();
        assert_eq!(
            wishes.rules,
            ["--exclude-inbound-ports=22,9100", "--exclude-outbound-subnets=10.0.0.0/8,fd00::7"]
        );
        let variables = [
            ("PILLION_LOG_LEVEL", "info,proxy=debug".to_owned()),
            ("PILLION_LOG_FORMAT", "json".to_owned()),
            ("PILLION_ACCESS_LOG", "errors".to_owned()),
            ("PILLION_OTLP_ENDPOINT", "http://collector:4317".to_owned()),
            ("PILLION_TRACE_SAMPLE_RATIO", "0.1".to_owned()),
            ("PILLION_INBOUND_PLAINTEXT", "deny".to_owned()),
            ("PILLION_EGRESS", "allow".to_owned()),
            ("PILLION_DRAIN_TIMEOUT", "1m30s".to_owned()),
        ];
        assert_eq!(wishes.variables, variables);
        assert!(wishes.is_strict);
    }

    #[test]
    fn what_all_sidecars_are_told_counts_where_the_pod_says_nothing() {
        let of_all =
            "PILLION_ACCESS_LOG=all,PILLION_INBOUND_PLAINTEXT=deny,PILLION_ACCESS_LOG=errors";
        let wishes = read_in(&[], of_all).unwrap();
        let expected = [("PILLION_ACCESS_LOG", "errors"), ("PILLION_INBOUND_PLAINTEXT", "deny")];
        assert_eq!(wishes.variables, expected.map(|(name, value)| (name, value.to_owned())));
        assert!(wishes.is_strict);
        let wishes = read_in(&[(ACCESS_LOG, "off"), (INBOUND_PLAINTEXT, "allow")], of_all).unwrap();
        let expected = [("PILLION_ACCESS_LOG", "off"), ("PILLION_INBOUND_PLAINTEXT", "allow")];
        assert_eq!(wishes.variables, expected.map(|(name, value)| (name, value.to_owned())));
        assert!(!wishes.is_strict);
    }

    #[test]
    fn a_bad_annotation_names_itself_and_its_value() {
        let cases = [
            (SKIP_INBOUND_PORTS, "22,x", "`x` is no port from 1 to 65535"),
            (SKIP_OUTBOUND_PORTS, "0", "`0` is no port from 1 to 65535"),
            (
                SKIP_INBOUND_SUBNETS,
                "10.0.0.1/8",
                "`10.0.0.1/8` has bits after its prefix; did you mean 10.0.0.0/8?",
            ),
            (SKIP_OUTBOUND_SUBNETS, "here", "`here` is no address and no CIDR such as 10.0.0.0/8"),
            (INBOUND_PLAINTEXT, "Deny", "\"Deny\" is neither allow nor deny"),
            (EGRESS, "", "\"\" is neither allow nor deny"),
            (ACCESS_LOG, "on", "\"on\" is none of off, errors, all"),
            (LOG_FORMAT, "JSON", "\"JSON\" is none of text, json"),
            (OTLP_ENDPOINT, "collector:4317", "\"collector:4317\" is not http://HOST:PORT"),
            (OTLP_ENDPOINT, "http://collector", "\"http://collector\" is not http://HOST:PORT"),
            (TRACE_SAMPLE_RATIO, "10%", "\"10%\" is no number from 0 to 1"),
            (TRACE_SAMPLE_RATIO, "1.1", "\"1.1\" is no number from 0 to 1"),
            (CPU_REQUEST, "fast", "\"fast\" is no amount such as 100m, 1.5 or 64Mi"),
            (
                CPU_LIMIT,
                "257",
                "\"257\" is too many CPUs for a sidecar; it has 256 workers at most",
            ),
            (MEMORY_REQUEST, "0", "\"0\" is too small; the least is 1m"),
            (MEMORY_LIMIT, "64mi", "\"64mi\" is no amount such as 100m, 1.5 or 64Mi"),
            ("pillion.dev/egres", "deny", "unknown annotation; did you mean pillion.dev/egress?"),
            ("pillion.dev/qqqqqqqqqqqqqqqqqqqqqqqqqqqq", "", "unknown annotation"),
        ];
        for (name, value, message) in cases {
            let faults = read(&[(name, value)]).unwrap_err();
            assert_eq!(faults, [format!("metadata.annotations[{name}]: {message}")]);
        }
        for (name, value) in [(LOG_LEVEL, "info,=="), (DRAIN_TIMEOUT, "1d")] {
            let faults = read(&[(name, value)]).unwrap_err();
            assert!(
                faults[0].starts_with(&format!("metadata.annotations[{name}]: {value:?} is no")),
                "{faults:?}"
            );
        }
        assert_eq!(read(&[(EGRESS, "x"), (DRAIN_TIMEOUT, "x")]).unwrap_err().len(), 2);
    }

    #[test]
    fn a_standard_value_gives_way_to_what_is_asked() {
        let standard = Resources { cpu_limit: Some(Quantity::milli(500)), ..Resources::standard() };
        let cases = [
            (None, None, ("50m", Some("500m"))),
            (Some("2"), None, ("2", Some("2"))),
            (Some("100m"), None, ("100m", Some("500m"))),
            (None, Some("20m"), ("20m", Some("20m"))),
            (None, Some("2"), ("50m", Some("2"))),
            (Some("1"), Some("2"), ("1", Some("2"))),
        ];
        for (request, limit, (cpu, most)) in cases {
            let given = [(CPU_REQUEST, request), (CPU_LIMIT, limit)];
            let annotations = given
                .iter()
                .filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned())))
                .collect();
            let wishes = Wishes::read(&annotations, &standard, &Variables::default());
            let resources = wishes.unwrap().resources;
            assert_eq!(resources.cpu_request.to_string(), cpu, "{given:?}");
            assert_eq!(resources.cpu_limit.map(|q| q.to_string()).as_deref(), most, "{given:?}");
        }
        let faults = read(&[(MEMORY_REQUEST, "1Gi"), (MEMORY_LIMIT, "1G")]).unwrap_err();
        assert_eq!(
            faults,
            [format!(
                "metadata.annotations[{MEMORY_REQUEST}]: 1Gi is more than {MEMORY_LIMIT}, 1G"
            )]
        );
    }
}
