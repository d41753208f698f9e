//! Numbers that are the same in every run.

use rand_core::{TryCryptoRng, TryRng};

/// 0, 1, 2 and so on. What is made of them need not be unpredictable here.
#[derive(Debug, Default)]
pub struct Numbers(u64);

impl Numbers {
    /// The next 32 octets, never the same twice.
    pub fn octets(&mut self) -> [u8; 32] {
        self.0 += 1;
        let mut octets = [0x42; 32];
        octets[..8].copy_from_slice(&self.0.to_le_bytes());
        octets
    }
}

impl TryRng for Numbers {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64()
            .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 += 1;
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Numbers {}
