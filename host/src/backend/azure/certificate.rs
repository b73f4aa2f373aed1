//! A certificate with its key and its chain, out of the secret in which Key Vault keeps them.
//!
//! The object is a JSON object, so that a reference's key takes its parts: `certificate`, `key` and
//! `chain`, each as PEM text. There is no `key` if the certificate's policy does not let it out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde::Serialize;
use vaultref_contract::Secret;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use super::pfx;

const PEM: &str = "application/x-pem-file";
const PKCS12: &str = "application/x-pkcs12";

/// Certificates and at most one key, as DER.
#[derive(Default)]
struct Bundle {
    certificates: Vec<Vec<u8>>,
    key: Option<Key>,
}

struct Key {
    /// What PEM calls its form.
    label: &'static str,
    der: Zeroizing<Vec<u8>>,
}

#[derive(Serialize)]
struct Object<'a> {
    certificate: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    chain: &'a str,
}

/// The object, from the secret's value and its content type, and from the certificate itself, which
/// says which of the bundle's certificates it is. None if it cannot be read.
///
/// May take a moment: call it where that holds up nobody.
pub(super) fn object(
    secret: &Secret,
    content_type: Option<&str>,
    certificate: &[u8],
) -> Option<Secret> {
    let bundle = match content_type {
        Some(PEM) => Bundle::from_pem(secret.expose())?,
        Some(PKCS12) => Bundle::from_pfx(secret.expose())?,
        _ => return None,
    };
    let mut chain = Zeroizing::new(String::new());
    for certificate in in_order(certificate, bundle.certificates) {
        chain.push_str(&pem("CERTIFICATE", &certificate));
    }
    let certificate = pem("CERTIFICATE", certificate);
    let key = bundle.key.map(|key| pem(key.label, &key.der));
    let object = Object {
        certificate: &certificate,
        key: key.as_ref().map(|key| key.as_str()),
        chain: &chain,
    };
    // Large enough that it does not grow, which would leave copies of the key behind: JSON writes
    // two characters for the end of a line, of which there is one in 64.
    let texts = certificate.len() + chain.len() + key.as_ref().map_or(0, |key| key.len());
    let mut json = Zeroizing::new(Vec::with_capacity(texts + texts / 16 + 256));
    serde_json::to_writer(&mut *json, &object).ok()?;
    Some(Secret::new(std::mem::take(&mut *json)))
}

impl Bundle {
    fn from_pem(text: &[u8]) -> Option<Self> {
        let mut bundle = Self::default();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.ok()?;
            let label = match kind {
                SectionKind::Certificate => {
                    bundle.certificates.push(der);
                    continue;
                }
                SectionKind::EcPrivateKey => "EC PRIVATE KEY",
                SectionKind::PrivateKey => "PRIVATE KEY",
                SectionKind::RsaPrivateKey => "RSA PRIVATE KEY",
                _ => continue,
            };
            let der = Zeroizing::new(der);
            bundle.key.get_or_insert(Key { label, der });
        }
        Some(bundle)
    }

    fn from_pfx(text: &[u8]) -> Option<Self> {
        let file = Zeroizing::new(STANDARD.decode(text.trim_ascii()).ok()?);
        let mut contents = pfx::open(&file)?;
        Some(Self {
            certificates: contents.certificates,
            key: contents.keys.drain(..).next().map(|der| Key {
                label: "PRIVATE KEY",
                der,
            }),
        })
    }
}

/// The certificates but the first one, each before the one that issued it, as TLS sends them.
/// Those that do not belong to the chain come last, as they stood.
fn in_order(first: &[u8], mut certificates: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    certificates.retain(|other| other != first);
    let mut ordered = Vec::with_capacity(certificates.len());
    let mut last = Certificate::from_der(first).ok();
    while let Some(issuer) = last.map(|last| last.tbs_certificate.issuer) {
        let issued = |certificate: &Certificate| certificate.tbs_certificate.subject == issuer;
        let mut rest = certificates.iter().enumerate();
        let next = rest.find_map(|(index, der)| {
            let certificate = Certificate::from_der(der).ok()?;
            issued(&certificate).then_some((index, certificate))
        });
        last = next.map(|(index, certificate)| {
            ordered.push(certificates.remove(index));
            certificate
        });
    }
    ordered.append(&mut certificates);
    ordered
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let lines = base64.len().div_ceil(64);
    let mut text = String::with_capacity(base64.len() + lines + 2 * label.len() + 34);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII.
        let (line, next) = rest.split_at(rest.len().min(64));
        text.extend([line, "\n"]);
        rest = next;
    }
    text.extend(["-----END ", label, "-----\n"]);
    Zeroizing::new(text)
}
