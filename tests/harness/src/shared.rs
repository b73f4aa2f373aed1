//! What the VMs of a gateway share: data with compare-and-set, and queues.

use std::collections::{BTreeMap, VecDeque};

use crate::abi::types::Status;
use crate::headers::size32;
use crate::profile::Profile;

/// Values by key. Envoy has one map a `vm_id` and knows keys by their bytes;
/// nginx has one zone and knows them by their CRC-32 alone.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    values: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
}

impl SharedData {
    pub(crate) fn value(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.values.get(key).cloned()
    }

    pub(crate) fn set(
        &mut self,
        profile: &Profile,
        key: Vec<u8>,
        value: Vec<u8>,
        cas: u32,
    ) -> Result<(), Status> {
        let known = self.values.get(&key).map(|(_, cas)| *cas);
        let matches = match profile {
            Profile::Envoy => cas == 0 || known.is_none_or(|known| known == cas),
            Profile::Nginx(_) => known.unwrap_or(0) == cas,
        };
        if !matches {
            return Err(Status::CasMismatch);
        }
        self.last_cas += 1;
        self.values.insert(key, (value, self.last_cas));
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }
}

/// The key under which the profile's gateway keeps `key`.
pub(crate) fn data_key(profile: &Profile, vm_id: &str, key: &[u8]) -> Vec<u8> {
    match profile {
        Profile::Envoy => [vm_id.as_bytes(), b"\0", key].concat(),
        Profile::Nginx(_) => crc32(key).to_le_bytes().to_vec(),
    }
}

/// Queues by the id of their VM and their name; numbers count from 1.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    names: Vec<(String, Vec<u8>)>,
    queues: Vec<Queue>,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) items: VecDeque<Vec<u8>>,
    /// Worker, VM and root context that asked to be told.
    pub(crate) owner: (u64, u32),
}

impl Queues {
    pub(crate) fn register(&mut self, vm_id: &str, name: &[u8], owner: (u64, u32)) -> u32 {
        if let Some(id) = self.find(vm_id, name) {
            self.queues[id as usize - 1].owner = owner;
            return id;
        }
        self.names.push((vm_id.to_owned(), name.to_vec()));
        self.queues.push(Queue {
            items: VecDeque::new(),
            owner,
        });
        size32(self.queues.len())
    }

    pub(crate) fn find(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let at = self
            .names
            .iter()
            .position(|(id, known)| id == vm_id && known == name)?;
        Some(size32(at) + 1)
    }

    pub(crate) fn at(&mut self, id: u32) -> Result<&mut Queue, Status> {
        let index = (id as usize).checked_sub(1).ok_or(Status::NotFound)?;
        self.queues.get_mut(index).ok_or(Status::NotFound)
    }
}

/// CRC-32 (IEEE), bit by bit: keys are short.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"plumless"), crc32(b"buckeroo"));
    }
}
