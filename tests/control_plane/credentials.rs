//! The certificates, keys and tokens of one control plane, and the kubeconfig files made of them.
//!
//! Everything is made anew for each control plane and lies in its folder; nothing here is worth protecting longer.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Who may call the API server with a token from the token file: name, groups.
const USERS: [(&str, &str); 4] = [(ADMINISTRATOR, "system:masters"), (CONTROLLER_MANAGER, ""), (SCHEDULER, ""), (KWOK, "system:masters")];

pub(super) const ADMINISTRATOR: &str = "administrator";
pub(super) const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub(super) const SCHEDULER: &str = "system:kube-scheduler";
pub(super) const KWOK: &str = "kwok";

pub(super) const AUTHORITY: &str = "authority.crt";
pub(super) const SERVING_CERTIFICATE: &str = "serving.crt";
pub(super) const SERVING_KEY: &str = "serving.key";
pub(super) const SERVICE_ACCOUNT_KEY: &str = "service-accounts.key";
pub(super) const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "service-accounts.pub";
pub(super) const TOKENS: &str = "tokens.csv";

/// Writes certificates, keys, the token file, and a kubeconfig for each user.
pub(super) fn write(folder: &Path, api_server_port: u16) -> anyhow::Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "leadergroup control plane");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    fs::write(folder.join(AUTHORITY), authority.self_signed(&authority_key)?.pem())?;

    let names = ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut serving = CertificateParams::new(names.map(str::to_owned))?;
    serving.distinguished_name.push(DnType::CommonName, "serving");
    serving.use_authority_key_identifier_extension = true;
    let serving_key = KeyPair::generate()?;
    let serving = serving.signed_by(&serving_key, &Issuer::new(authority, authority_key))?;
    fs::write(folder.join(SERVING_CERTIFICATE), serving.pem())?;
    fs::write(folder.join(SERVING_KEY), serving_key.serialize_pem())?;
    let service_accounts = KeyPair::generate()?;
    fs::write(folder.join(SERVICE_ACCOUNT_KEY), service_accounts.serialize_pem())?;
    fs::write(folder.join(SERVICE_ACCOUNT_PUBLIC_KEY), service_accounts.public_key_pem())?;

    let mut tokens = Vec::new();
    for (user, groups) in USERS {
        let token = format!("{:016x}{:016x}", RandomState::new().hash_one(user), RandomState::new().hash_one(user));
        tokens.push(format!("{token},{user},{user},\"{groups}\"\n"));
        write_kubeconfig(folder, api_server_port, user, "default", &token)?;
    }
    fs::write(folder.join(TOKENS), tokens.concat())?;
    Ok(())
}

/// Where this user's kubeconfig lies.
pub(super) fn kubeconfig(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("{}.kubeconfig", user.replace(':', "-")))
}

pub(super) fn write_kubeconfig(folder: &Path, api_server_port: u16, user: &str, namespace: &str, token: &str) -> anyhow::Result<PathBuf> {
    let authority = folder.join(AUTHORITY);
    let path = kubeconfig(folder, user);
    let text = format!(
        r#"apiVersion: v1
kind: Config
current-context: leadergroup
contexts:
- name: leadergroup
  context: {{cluster: leadergroup, user: "{user}", namespace: "{namespace}"}}
clusters:
- name: leadergroup
  cluster:
    server: https://127.0.0.1:{api_server_port}
    certificate-authority: {authority}
users:
- name: "{user}"
  user: {{token: {token}}}
"#,
        authority = authority.display(),
    );
    fs::write(&path, text)?;
    Ok(path)
}
