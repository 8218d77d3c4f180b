//! Errors that would quote what is secret: a kubeconfig, or what a plugin for credentials has printed. In the place of their words it is
//! said what is wrong, and where.

use std::error::Error;
use std::io;

use kube::client::AuthError;
use kube::config::KubeconfigError;

/// So many characters are told of what a plugin has complained of.
const COMPLAINT: usize = 256;

/// The error, what has caused it, and so on.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // What an I/O error was made of is not its source.
            Some(inner) => Some(inner as _),
            None => error.source(),
        }
    })
}

/// What is said in the place of the error; `None`: it quotes nothing secret.
fn instead_of(error: &(dyn Error + 'static)) -> Option<String> {
    let place = |line: Option<u64>| line.map(|line| format!(" at line {line}")).unwrap_or_default();
    chain(error).find_map(|error| {
        if let Some(KubeconfigError::Parse(problem)) = error.downcast_ref() {
            return Some(format!(
                "the kubeconfig cannot be read{}, where it is no YAML, or not what a kubeconfig has there",
                place(problem.location().map(|place| place.line()))
            ));
        }
        if let Some(kube::Error::ProxyProtocolUnsupported { proxy_url } | kube::Error::ProxyProtocolDisabled { proxy_url, .. }) = error.downcast_ref() {
            let scheme = proxy_url.scheme_str().unwrap_or_default();
            return Some(format!("no proxy is spoken to by {scheme}: give one of http, https and socks5"));
        }
        match error.downcast_ref()? {
            // The command itself bears its environment and arguments.
            AuthError::AuthExecRun { out, .. } => {
                let complaint: String = String::from_utf8_lossy(&out.stderr).trim().chars().take(COMPLAINT).collect();
                Some(format!("the plugin for credentials has failed ({}): {complaint:?}", out.status))
            }
            AuthError::AuthExecParse(problem) => {
                Some(format!("what the plugin for credentials has printed is no ExecCredential{}", place(problem.location().map(|place| place.line()))))
            }
            AuthError::MalformedTokenExpirationDate(_) => Some("the date on which the credentials end is none".to_owned()),
            _ => None,
        }
    })
}

/// The error in words that may be told.
pub(super) fn told(error: &(dyn Error + 'static)) -> String {
    instead_of(error).unwrap_or_else(|| error.to_string())
}

/// The error as it may be told.
pub(super) fn without(error: kube::Error) -> kube::Error {
    instead_of(&error).map_or(error, |words| kube::Error::Service(words.into()))
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use kube::config::{KubeConfigOptions, Kubeconfig};

    use super::*;

    fn read(credentials: &str) -> Result<Kubeconfig, KubeconfigError> {
        Kubeconfig::from_yaml(&format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{ name: a, context: {{ cluster: a, user: a }} }}]\n\
             clusters: [{{ name: a, cluster: {{ server: 'https://127.0.0.1:1' }} }}]\nusers:\n- name: a\n  user:\n{credentials}"
        ))
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_read_is_not_quoted() {
        for credentials in ["    token: SECRET: abc\n", "    token: [SECRET]\n", "    token: \"SECRET\n"] {
            let error = read(credentials).unwrap_err();
            assert!(error.to_string().contains("SECRET"), "it would be: {error}");
            let words = instead_of(&error).unwrap();
            assert!(words.contains("line ") && !words.contains("SECRET"), "{words}");
        }
    }

    #[tokio::test]
    async fn what_a_plugin_has_printed_is_not_quoted_and_what_it_complains_of_is() {
        let plugin = |script: &str| {
            format!("    exec: {{ apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, '{script}'], interactiveMode: Never }}\n")
        };
        for (script, told) in [("echo \"token: SECRET: abc\"", "ExecCredential"), ("echo SECRET; echo no such account >&2; exit 3", "no such account")] {
            let kubeconfig = read(&plugin(script)).unwrap();
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            let build = tokio::task::spawn_blocking(move || super::super::client(config).map(drop)).await.unwrap();
            let words = without(build.unwrap_err()).to_string();
            assert!(words.contains(told) && !words.contains("SECRET"), "{words}");
        }
    }
}
