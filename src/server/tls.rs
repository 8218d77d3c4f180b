//! The certificate that a server shows: of files, which are read again when they change, or one that it made itself at its
//! start. Decides nothing about who is let in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::{CertifiedKey as SelfSigned, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::{info, warn};

/// How often files are looked at: a kubelet brings a Secret's change within about a minute.
const LOOK: Duration = Duration::from_secs(10);
/// Largest file that is read.
const LARGEST: u64 = 1 << 20;

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What is shown now.
struct Shown(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// A server's side of TLS.
pub struct Tls {
    shown: Arc<Shown>,
    acceptor: TlsAcceptor,
    files: Option<(CertificateFiles, Contents)>,
}

/// What files held when they were last looked at.
type Contents = Result<(Vec<u8>, Vec<u8>), String>;

impl Tls {
    /// With the certificate of these files; without any with one that is made for these names now.
    ///
    /// # Errors
    /// Says which file cannot be used, and why.
    pub fn new(files: Option<CertificateFiles>, names: Vec<String>) -> Result<Self, String> {
        let (key, files) = match files {
            Some(files) => {
                let contents = read(&files)?;
                (certified(&files, &contents)?, Some((files, Ok(contents))))
            }
            None => (self_signed(names)?, None),
        };
        let shown = Arc::new(Shown(RwLock::new(Arc::new(key))));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let mut config = config.map_err(|problem| format!("TLS: {problem}"))?.with_no_client_auth().with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { shown, acceptor: TlsAcceptor::from(Arc::new(config)), files })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// The certificate that is shown now.
    #[cfg(test)]
    pub(super) fn shown(&self) -> CertificateDer<'static> {
        self.shown.0.read().unwrap_or_else(PoisonError::into_inner).cert[0].clone()
    }

    /// Looks at the files again and again until `stopped` completes. What cannot be used is told once, and the former is shown on.
    pub async fn follow(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        while self.files.is_some() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => self.look(),
                () = &mut stopped => return,
            }
        }
    }

    fn look(&mut self) {
        let Some((files, last)) = &mut self.files else { return };
        let contents = read(files);
        if contents == *last {
            return;
        }
        match contents.as_ref().map_err(Clone::clone).and_then(|contents| certified(files, contents)) {
            Ok(key) => {
                *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                info!(file = %files.certificate.display(), "The certificate has changed");
            }
            Err(problem) => warn!(problem, "The certificate cannot be read again; the former is used on"),
        }
        *last = contents;
    }
}

fn read(files: &CertificateFiles) -> Contents {
    let read = |file: &Path| {
        let size = file.metadata().map_err(|problem| format!("{}: {problem}", file.display()))?.len();
        if size > LARGEST {
            return Err(format!("{}: has {size} bytes; at most {LARGEST} are read", file.display()));
        }
        std::fs::read(file).map_err(|problem| format!("{}: {problem}", file.display()))
    };
    Ok((read(&files.certificate)?, read(&files.key)?))
}

fn certified(files: &CertificateFiles, (certificate, key): &(Vec<u8>, Vec<u8>)) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| format!("{}: must hold a certificate in PEM, and those that signed it", files.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| format!("{}: must hold a private key in PEM", files.key.display()))?;
    CertifiedKey::from_der(chain, key, &default_provider())
        .map_err(|problem| format!("{} and {}: no certificate and its key: {problem}", files.certificate.display(), files.key.display()))
}

fn self_signed(names: Vec<String>) -> Result<CertifiedKey, String> {
    let refuse = |problem: &dyn fmt::Display| format!("no certificate could be made: {problem}");
    let SelfSigned { cert, signing_key } = generate_simple_self_signed(names).map_err(|problem| refuse(&problem))?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(|problem| refuse(&problem))?;
    CertifiedKey::from_der(vec![cert.der().clone()], key, &default_provider()).map_err(|problem| refuse(&problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) -> (CertificateFiles, Vec<u8>) {
        let SelfSigned { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        let files = CertificateFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        std::fs::write(&files.certificate, cert.pem()).unwrap();
        std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
        (files, cert.der().to_vec())
    }

    #[test]
    fn files_that_change_are_read_again_and_ones_that_break_leave_the_former_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let (files, first) = write(folder.path(), "first");
        let mut tls = Tls::new(Some(files.clone()), vec![]).unwrap();
        assert_eq!(tls.shown().to_vec(), first);
        let (_, second) = write(folder.path(), "second");
        tls.look();
        assert_eq!(tls.shown().to_vec(), second);
        // As while both are being replaced: the one is new, the other is not.
        let key = std::fs::read(&files.key).unwrap();
        let (_, third) = write(folder.path(), "third");
        let new_key = std::fs::read(&files.key).unwrap();
        for broken in [&key[..], b"", b"no key"] {
            std::fs::write(&files.key, broken).unwrap();
            tls.look();
            assert_eq!(tls.shown().to_vec(), second);
        }
        std::fs::remove_file(&files.key).unwrap();
        tls.look();
        assert_eq!(tls.shown().to_vec(), second);
        std::fs::write(&files.key, new_key).unwrap();
        tls.look();
        assert_eq!(tls.shown().to_vec(), third);
    }

    #[test]
    fn what_is_no_certificate_is_refused_by_the_name_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = write(folder.path(), "name");
        let refused = |files: &CertificateFiles| Tls::new(Some(files.clone()), vec![]).map(|_| ()).unwrap_err();
        let missing = CertificateFiles { certificate: folder.path().join("none.crt"), ..files.clone() };
        assert!(refused(&missing).contains("none.crt"));
        let swapped = CertificateFiles { certificate: files.key.clone(), key: files.certificate.clone() };
        assert!(refused(&swapped).contains("tls.key: must hold a certificate in PEM"));
        std::fs::write(&files.key, "nothing").unwrap();
        assert!(refused(&files).contains("tls.key: must hold a private key in PEM"));
    }
}
