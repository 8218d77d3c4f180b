//! The certificates, keys and tokens of one control plane, and the kubeconfig files made of them.
//!
//! Everything is made anew for each control plane and lies in its folder; nothing here is worth protecting longer.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::nodes;
use super::real_nodes::network;

/// Who may call the API server with a token from the token file: name, groups.
const USERS: [(&str, &str); 4] = [(ADMINISTRATOR, "system:masters"), (CONTROLLER_MANAGER, ""), (SCHEDULER, ""), (KWOK, "system:masters")];

pub(super) const ADMINISTRATOR: &str = "administrator";
pub(super) const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub(super) const SCHEDULER: &str = "system:kube-scheduler";
pub(super) const KWOK: &str = "kwok";
pub(super) const PROXY: &str = "system:kube-proxy";

pub(super) const AUTHORITY: &str = "authority.crt";
pub(super) const SERVING_CERTIFICATE: &str = "serving.crt";
pub(super) const SERVING_KEY: &str = "serving.key";
pub(super) const KUBELET_CLIENT_CERTIFICATE: &str = "kubelet-client.crt";
pub(super) const KUBELET_CLIENT_KEY: &str = "kubelet-client.key";
pub(super) const SERVICE_ACCOUNT_KEY: &str = "service-accounts.key";
pub(super) const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "service-accounts.pub";
pub(super) const TOKENS: &str = "tokens.csv";

/// Writes certificates, keys, the token file, and a kubeconfig for each user, those of so many real nodes included.
pub(super) fn write(folder: &Path, api_server_port: u16, real_nodes: usize) -> anyhow::Result<()> {
    let (authority, certificate) = authority("leadergroup control plane")?;
    fs::write(folder.join(AUTHORITY), certificate)?;
    write_serving(&authority, folder)?;
    let service_accounts = KeyPair::generate()?;
    fs::write(folder.join(SERVICE_ACCOUNT_KEY), service_accounts.serialize_pem())?;
    fs::write(folder.join(SERVICE_ACCOUNT_PUBLIC_KEY), service_accounts.public_key_pem())?;

    let here = server(api_server_port);
    let from_nodes = format!("https://{}:{api_server_port}", network::CONTROL_PLANE);
    let mut users: Vec<(String, &str, &str)> = USERS.iter().map(|(user, groups)| ((*user).to_owned(), *groups, here.as_str())).collect();
    if real_nodes > 0 {
        // What kubelets are called with takes a certificate; they know no tokens of ours.
        let certificate = (folder.join(KUBELET_CLIENT_CERTIFICATE), folder.join(KUBELET_CLIENT_KEY));
        write_certificate(&authority, &certificate, "kube-apiserver", Some("system:masters"), &[])?;
        users.push((PROXY.to_owned(), "", &from_nodes));
    }
    for number in 1..=real_nodes {
        let (name, address) = (nodes::name(number), network::address(number));
        write_certificate(&authority, &kubelet_serving(folder, number), &name, None, &[&name, &address])?;
        users.push((kubelet(number), "system:nodes", &from_nodes));
    }

    let mut tokens = Vec::new();
    for (user, groups, server) in users {
        let token = format!("{:016x}{:016x}", RandomState::new().hash_one(&user), RandomState::new().hash_one(&user));
        tokens.push(format!("{token},{user},{user},\"{groups}\"\n"));
        write_kubeconfig(folder, server, &user, "default", &token)?;
    }
    fs::write(folder.join(TOKENS), tokens.concat())?;
    Ok(())
}

/// Has the API server's certificate signed by a new authority, and gives that one's.
pub(super) fn sign_anew(folder: &Path) -> anyhow::Result<String> {
    let (authority, certificate) = authority("another leadergroup control plane")?;
    write_serving(&authority, folder)?;
    Ok(certificate)
}

fn authority(name: &str) -> anyhow::Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = authority.self_signed(&key)?.pem();
    Ok((Issuer::new(authority, key), certificate))
}

fn write_serving(authority: &Issuer<'_, KeyPair>, folder: &Path) -> anyhow::Result<()> {
    let names = ["127.0.0.1", network::CONTROL_PLANE, "10.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let certificate = (folder.join(SERVING_CERTIFICATE), folder.join(SERVING_KEY));
    write_certificate(authority, &certificate, "serving", None, &names)
}

/// Where the API server is reached, from this machine and by its own companions.
pub(super) fn server(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// What a kubeconfig says, for clients of the test's own.
pub(super) async fn config(kubeconfig: &Path) -> anyhow::Result<kube::Config> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?)
}

/// The user that this node's kubelet is.
pub(super) fn kubelet(number: usize) -> String {
    format!("system:node:{}", nodes::name(number))
}

/// Certificate and key with which this node's kubelet answers.
pub(super) fn kubelet_serving(folder: &Path, number: usize) -> (PathBuf, PathBuf) {
    let name = nodes::name(number);
    (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")))
}

fn write_certificate(
    authority: &Issuer<'_, KeyPair>,
    (certificate, key_file): &(PathBuf, PathBuf),
    name: &str,
    organization: Option<&str>,
    names: &[&str],
) -> anyhow::Result<()> {
    let mut wanted = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    wanted.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        wanted.distinguished_name.push(DnType::OrganizationName, organization);
    }
    wanted.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    fs::write(certificate, wanted.signed_by(&key, authority)?.pem())?;
    fs::write(key_file, key.serialize_pem())?;
    Ok(())
}

/// Where this user's kubeconfig lies.
pub(super) fn kubeconfig(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("{}.kubeconfig", user.replace(':', "-")))
}

pub(super) fn write_kubeconfig(folder: &Path, server: &str, user: &str, namespace: &str, token: &str) -> anyhow::Result<PathBuf> {
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
    server: {server}
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
