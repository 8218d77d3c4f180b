//! The flags of who may read the metrics, by the names that controller-runtime's programs have for them.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::leader_election::boolean;

/// How the metrics are served.
#[derive(Args, Clone, Debug, Default)]
pub struct MetricsSettings {
    /// Serve /metrics over TLS, and only to whom the API server lets: a request's bearer token is authenticated by a
    /// TokenReview, and authorized by a SubjectAccessReview of the path /metrics. Needs the rights of config/metrics-secure.
    #[arg(long, env = "METRICS_SECURE", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = boolean)]
    pub metrics_secure: bool,

    /// Folder of the certificate that is shown; read again when it changes. Default: one that is made at the start.
    #[arg(long, env = "METRICS_CERT_PATH", value_name = "FOLDER")]
    pub metrics_cert_path: Option<PathBuf>,

    /// The certificate's file in that folder.
    #[arg(long, env = "METRICS_CERT_NAME", value_name = "FILE", default_value = "tls.crt")]
    pub metrics_cert_name: PathBuf,

    /// Its key's file in that folder.
    #[arg(long, env = "METRICS_CERT_KEY", value_name = "FILE", default_value = "tls.key")]
    pub metrics_cert_key: PathBuf,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// It is made at the start, and signed by nobody else.
    SelfSigned,
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

impl MetricsSettings {
    /// The certificate where the metrics are to be served over TLS.
    ///
    /// # Errors
    /// Where a certificate would never be shown.
    pub fn resolve(&self) -> Result<Option<Certificate>, String> {
        match (&self.metrics_cert_path, self.metrics_secure) {
            (Some(folder), true) => {
                Ok(Some(Certificate::Files { certificate: folder.join(&self.metrics_cert_name), key: folder.join(&self.metrics_cert_key) }))
            }
            (None, true) => Ok(Some(Certificate::SelfSigned)),
            (None, false) => Ok(None),
            (Some(_), false) => Err("--metrics-cert-path: without --metrics-secure no certificate is shown to anybody; set that, too".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        metrics: MetricsSettings,
    }

    fn resolve(flags: &[&str]) -> Result<Option<Certificate>, String> {
        Flags::parse_from([&["program"], flags].concat()).metrics.resolve()
    }

    #[test]
    fn a_certificate_is_shown_where_metrics_are_secure() {
        assert_eq!(resolve(&[]), Ok(None));
        assert_eq!(resolve(&["--metrics-secure"]), Ok(Some(Certificate::SelfSigned)));
        let files = |certificate: &str, key: &str| Ok(Some(Certificate::Files { certificate: certificate.into(), key: key.into() }));
        assert_eq!(resolve(&["--metrics-secure=true", "--metrics-cert-path=/certs"]), files("/certs/tls.crt", "/certs/tls.key"));
        let named = ["--metrics-secure", "--metrics-cert-path=/certs", "--metrics-cert-name=a.pem", "--metrics-cert-key=b.pem"];
        assert_eq!(resolve(&named), files("/certs/a.pem", "/certs/b.pem"));
        assert!(resolve(&["--metrics-cert-path=/certs"]).unwrap_err().contains("--metrics-secure"));
    }
}
