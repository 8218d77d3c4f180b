//! What `--log-level` takes. A filter that would silence this program by mistake is refused, or put right where it is plain
//! what was meant.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Levels for all and by module, as tracing's `EnvFilter` writes them, always with one for all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilter(String);

/// What is logged of what no directive names.
const DEFAULT: &str = "info";

impl LogFilter {
    /// The filter; `None` never, because it was looked at when it was read.
    pub fn filter(&self) -> Option<EnvFilter> {
        EnvFilter::builder().parse(&self.0).ok()
    }

    /// Whether it names this very module.
    pub fn names(&self, module: &str) -> bool {
        self.0.split(',').any(|directive| directive.split(['=', '[']).next().is_some_and(|name| name.trim() == module))
    }
}

/// As the flag takes it.
impl fmt::Display for LogFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A directive by tracing's name of the level that others call a warning.
fn without_alias(directive: &str) -> Cow<'_, str> {
    let (before, level) = directive.rsplit_once('=').map_or(("", directive), |(module, level)| (&directive[..=module.len()], level));
    if level.eq_ignore_ascii_case("warning") { format!("{before}warn").into() } else { directive.into() }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str =
            "must be off, error, warn, info, debug or trace, or a list with those of modules, as in \"info\" or \"info,leadergroup=debug,hyper_util=warn\"";
        let text = text.split(',').map(without_alias).collect::<Vec<_>>().join(",");
        let mut for_all = false;
        for directive in text.split(',') {
            if directive.contains(['=', '[']) && !directive.ends_with('=') {
                continue;
            }
            // EnvFilter takes any word for a module, and is silent about everything else.
            if directive.is_empty() || directive.parse::<LevelFilter>().is_err() {
                return Err(format!("{directive:?} is no level: {ALLOWED}"));
            }
            for_all = true;
        }
        let full = if for_all { text } else { format!("{DEFAULT},{text}") };
        EnvFilter::builder().parse(&full).map_err(|problem| format!("{problem}: {ALLOWED}"))?;
        Ok(Self(full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_silence_the_program_by_mistake_is_refused_with_what_is_allowed() {
        for mistake in ["", ",", "verbose", "information", "leadergroup", "info,", "info,verbose", "leadergroup=verbose", "leadergroup=", "info,=,"] {
            let refused = mistake.parse::<LogFilter>().unwrap_err();
            assert!(refused.contains("off, error, warn, info, debug or trace"), "{mistake:?}: {refused}");
        }
    }

    #[test]
    fn what_others_call_a_warning_is_one() {
        for (text, full) in [("warning", "warn"), ("WARNING", "warn"), ("error,hyper=warning", "error,hyper=warn"), ("hyper=Warning", "info,hyper=warn")] {
            assert_eq!(text.parse(), Ok(LogFilter(full.to_owned())));
        }
        assert!("warnings".parse::<LogFilter>().is_err() && "hyper=warnings".parse::<LogFilter>().is_err());
    }

    #[test]
    fn a_filter_of_modules_alone_leaves_the_rest_at_info() {
        for (text, full) in
            [("debug", "debug"), ("WARN", "WARN"), ("off", "off"), ("hyper=debug", "info,hyper=debug"), ("error,hyper=debug", "error,hyper=debug")]
        {
            assert_eq!(text.parse(), Ok(LogFilter(full.to_owned())));
        }
    }

    #[test]
    fn a_module_is_named_by_its_whole_path_only() {
        let filter: LogFilter = "trace,kube_client=trace,kube_runtime::watcher=debug,[HTTP]=trace".parse().unwrap();
        assert!(filter.names("kube_client") && filter.names("kube_runtime::watcher") && !filter.names("kube_client::client"));
    }
}
