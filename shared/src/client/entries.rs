//! Entries of buckets, read and written with compare-and-set.

use async_nats::jetstream::kv;
use bytes::Bytes;

use super::publish::Expect;
use super::{Client, Error};
use crate::topology::Bucket;

/// How often a change of an entry is repeated when others change it at the same time.
const CHANGES_MAX: u32 = 10;

/// An entry that is there.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) revision: u64,
}

impl Client {
    async fn bucket(&self, bucket: Bucket) -> Result<kv::Store, Error> {
        let name = bucket.name(self.namespace());
        self.jetstream()
            .get_key_value(&name)
            .await
            .map_err(|error| self.failed(format!("use bucket `{name}`"), error))
    }

    pub(crate) async fn read_entry(
        &self,
        bucket: Bucket,
        key: &str,
    ) -> Result<Option<Entry>, Error> {
        let store = self.bucket(bucket).await?;
        let entry = store
            .entry(key)
            .await
            .map_err(|error| self.failed(format!("read `{key}` in `{}`", store.name), error))?;
        Ok(entry
            .filter(|entry| entry.operation == kv::Operation::Put)
            .map(|entry| Entry {
                value: entry.value,
                revision: entry.revision,
            }))
    }

    /// Writes an entry and returns its revision. `what` is the kind of thing that the bucket holds.
    pub(crate) async fn write_entry(
        &self,
        bucket: Bucket,
        what: &'static str,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, Error> {
        let store = self.bucket(bucket).await?;
        let conflict = || Error::Conflict {
            what,
            name: key.to_owned(),
        };
        let error = match expect {
            Expect::Anything => match store.put(key, value.clone()).await {
                Ok(revision) => return Ok(revision),
                Err(error) => error.to_string(),
            },
            Expect::Nothing => match store.create(key, value.clone()).await {
                Ok(revision) => return Ok(revision),
                Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => {
                    return Err(conflict());
                }
                Err(error) => error.to_string(),
            },
            Expect::Last(revision) => match store.update(key, value.clone(), revision).await {
                Ok(revision) => return Ok(revision),
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {
                    return Err(conflict());
                }
                Err(error) => error.to_string(),
            },
        };
        // The confirmation may be all that was lost.
        if let Ok(Some(entry)) = self.read_entry(bucket, key).await
            && entry.value == value
        {
            return Ok(entry.revision);
        }
        Err(self.failed(format!("write {what} `{key}`"), error))
    }

    pub(crate) async fn delete_entry(
        &self,
        bucket: Bucket,
        what: &'static str,
        key: &str,
        revision: u64,
    ) -> Result<(), Error> {
        let store = self.bucket(bucket).await?;
        match store.delete_expect_revision(key, Some(revision)).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {
                Err(Error::Conflict {
                    what,
                    name: key.to_owned(),
                })
            }
            Err(error) => Err(self.failed(format!("delete {what} `{key}`"), error)),
        }
    }

    /// Reads an entry, lets `change` make the new value of it, and writes that, until nobody else
    /// was in between. `change` gives none where there is nothing to write.
    pub(crate) async fn change_entry<F>(
        &self,
        bucket: Bucket,
        what: &'static str,
        key: &str,
        mut change: F,
    ) -> Result<(), Error>
    where
        F: FnMut(Option<&Entry>) -> Result<Option<Bytes>, Error>,
    {
        let mut tries = 0;
        loop {
            let entry = self.read_entry(bucket, key).await?;
            let Some(value) = change(entry.as_ref())? else {
                return Ok(());
            };
            let expect = entry.map_or(Expect::Nothing, |entry| Expect::Last(entry.revision));
            tries += 1;
            match self.write_entry(bucket, what, key, value, expect).await {
                Err(Error::Conflict { .. }) if tries < CHANGES_MAX => {}
                other => return other.map(drop),
            }
        }
    }
}
