//! PKCS #12 (RFC 7292), of which Key Vault makes the secret of a certificate.
//!
//! Its files have no password, of which there are two kinds: RFC 7292 B.2 leaves it away where
//! others write an empty text with its terminator. Key Vault leaves it away, which is why the usual
//! libraries, whose passwords are texts, cannot read what it gives. Both kinds are tried.
//!
//! Nothing is trusted for the file's own checks: what it holds came over TLS from the vault.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use cms::content_info::ContentInfo;
use cms::encrypted_data::EncryptedData;
use der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier, OctetString};
use der::{Any, Decode as _, Encode as _};
use des::TdesEde3;
use hmac::digest::OutputSizeUser;
use hmac::{Hmac, Mac as _};
use pkcs5::pbes2;
use pkcs12::authenticated_safe::AuthenticatedSafe;
use pkcs12::cert_type::CertBag;
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use pkcs12::mac_data::MacData;
use pkcs12::pbe_params::{EncryptedPrivateKeyInfo, Pkcs12PbeParams};
use pkcs12::pfx::Pfx;
use pkcs12::safe_bag::SafeContents;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

/// No password, left away and as an empty text.
const NO_PASSWORD: [&[u8]; 2] = [&[], &[0, 0]];

/// Others use a few thousand rounds to derive a key; this many take well under a second.
const MOST_ROUNDS: u32 = 1_000_000;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// What a file holds, in its own order, as DER.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) certificates: Vec<Vec<u8>>,
    /// PKCS #8.
    pub(super) keys: Vec<Zeroizing<Vec<u8>>>,
}

/// Opens a file that has no password. May take a moment: call it where that holds up nobody.
pub(super) fn open(file: &[u8]) -> Option<Contents> {
    let pfx = Pfx::from_der(file).ok()?;
    let safes = octets(&pfx.auth_safe)?;
    let mut passwords = NO_PASSWORD.into_iter();
    passwords.find_map(|password| {
        let is_it = pfx
            .mac_data
            .as_ref()
            .is_none_or(|mac| verifies(mac, password, &safes));
        is_it.then(|| contents(&safes, password)).flatten()
    })
}

fn contents(safes: &[u8], password: &[u8]) -> Option<Contents> {
    let mut contents = Contents::default();
    for safe in AuthenticatedSafe::from_der(safes).ok()? {
        let bags = match safe.content_type {
            DATA => octets(&safe)?,
            ENCRYPTED_DATA => {
                let data: EncryptedData = decode(&safe.content)?;
                let content = data.enc_content_info.encrypted_content?;
                let algorithm = data.enc_content_info.content_enc_alg;
                decrypt(&algorithm, content.as_bytes(), password)?
            }
            _ => return None,
        };
        for bag in SafeContents::from_der(&bags).ok()? {
            let value = Zeroizing::new(bag.bag_value);
            match bag.bag_id {
                pkcs12::PKCS_12_CERT_BAG_OID => {
                    let bag = ContextSpecific::<CertBag>::from_der(&value).ok()?.value;
                    if bag.cert_id == pkcs12::PKCS_12_X509_CERT_OID {
                        contents.certificates.push(bag.cert_value.into_bytes());
                    }
                }
                pkcs12::PKCS_12_KEY_BAG_OID => {
                    let bag = ContextSpecific::<AnyRef<'_>>::from_der(&value).ok()?;
                    contents.keys.push(Zeroizing::new(bag.value.to_der().ok()?));
                }
                pkcs12::PKCS_12_PKCS8_KEY_BAG_OID => {
                    let bag = ContextSpecific::<EncryptedPrivateKeyInfo>::from_der(&value).ok()?;
                    let encrypted = bag.value.encrypted_data.as_bytes();
                    let key = decrypt(&bag.value.encryption_algorithm, encrypted, password)?;
                    contents.keys.push(key);
                }
                // Nothing that belongs to a certificate.
                _ => {}
            }
        }
    }
    Some(contents)
}

/// What stands in the place of a content that is not encrypted.
fn octets(content: &ContentInfo) -> Option<Zeroizing<Vec<u8>>> {
    let octets: OctetString = decode(&content.content)?;
    (content.content_type == DATA).then(|| Zeroizing::new(octets.into_bytes()))
}

fn decode<T: for<'a> der::Decode<'a>>(any: &Any) -> Option<T> {
    T::from_der(&Zeroizing::new(any.to_der().ok()?)).ok()
}

/// Whether the file was made with this password.
fn verifies(mac: &MacData, password: &[u8], data: &[u8]) -> bool {
    macro_rules! with {
        ($digest:ty) => {{
            let length = <$digest>::output_size();
            let key = derived::<$digest>(
                password,
                mac.mac_salt.as_bytes(),
                Pkcs12KeyType::Mac,
                mac.iterations,
                length,
            );
            let made = key.and_then(|key| Hmac::<$digest>::new_from_slice(&key).ok());
            made.is_some_and(|made| {
                let made = made.chain_update(data);
                made.verify_slice(mac.mac.digest.as_bytes()).is_ok()
            })
        }};
    }
    match mac.mac.algorithm.oid {
        SHA_1 => with!(Sha1),
        SHA_256 => with!(Sha256),
        SHA_384 => with!(Sha384),
        SHA_512 => with!(Sha512),
        _ => false,
    }
}

fn decrypt(
    algorithm: &AlgorithmIdentifierOwned,
    data: &[u8],
    password: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let parameters = algorithm.parameters.as_ref()?;
    let clear = match algorithm.oid {
        pkcs12::PKCS_12_PBE_WITH_SHAAND3_KEY_TRIPLE_DES_CBC => {
            let parameters: Pkcs12PbeParams = decode(parameters)?;
            let derived = |purpose, length| {
                let salt = parameters.salt.as_bytes();
                derived::<Sha1>(password, salt, purpose, parameters.iterations, length)
            };
            let key = derived(Pkcs12KeyType::EncryptionKey, 24)?;
            let start = derived(Pkcs12KeyType::Iv, 8)?;
            let cipher = cbc::Decryptor::<TdesEde3>::new_from_slices(&key, &start).ok()?;
            cipher.decrypt_padded_vec_mut::<Pkcs7>(data).ok()?
        }
        PBES2 => {
            let parameters = parameters.to_der().ok()?;
            let parameters = pbes2::Parameters::from_der(&parameters).ok()?;
            // The other way to derive a key takes as much memory as the file asks for.
            let rounds = parameters.kdf.pbkdf2()?.iteration_count;
            if rounds > MOST_ROUNDS {
                return None;
            }
            // Here the password is UTF-8, of which there is one kind of none.
            parameters.decrypt([], data).ok()?
        }
        _ => return None,
    };
    Some(Zeroizing::new(clear))
}

fn derived<D>(
    password: &[u8],
    salt: &[u8],
    purpose: Pkcs12KeyType,
    rounds: i32,
    length: usize,
) -> Option<Zeroizing<Vec<u8>>>
where
    D: hmac::digest::Digest
        + hmac::digest::FixedOutputReset
        + hmac::digest::core_api::BlockSizeUser,
{
    let rounds = u32::try_from(rounds).ok()?;
    let rounds = i32::try_from(rounds.min(MOST_ROUNDS + 1)).ok()?;
    (1..=MOST_ROUNDS.cast_signed())
        .contains(&rounds)
        .then(|| Zeroizing::new(derive_key::<D>(password, salt, purpose, rounds, length)))
}
