//! Request ↔ octets: the payload's one canonical encoding ("Payload").

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use zeroize::Zeroizing;

use crate::key::{Psk, PublicKey};
use crate::knock::{
    Act, Address, AddressError, Code, CodeError, Enrollment, Label, LabelError, Request, ServiceName, ServiceNameError,
    Services, ServicesError,
};
use crate::time::UnixTime;

/// Octets before the body.
pub const PAYLOAD_MIN: usize = 36;

const KIND_OPEN: u8 = 1;
const KIND_CLOSE: u8 = 2;
const KIND_ENROLL: u8 = 3;
const FORM_AS_SEEN: u8 = 0;
const FORM_IPV4: u8 = 4;
const FORM_IPV6: u8 = 6;
const NO_CODE: u32 = 0xffff_ffff;

impl Request {
    /// How many octets the payload takes without padding.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        PAYLOAD_MIN
            + match &self.act {
                Act::Open { services, .. } | Act::Close { services, .. } => {
                    1 + services.iter().map(|name| 1 + name.as_str().len()).sum::<usize>()
                }
                Act::Enroll(enrollment) => 32 + 32 + 1 + enrollment.label.as_str().len(),
            }
    }

    /// The payload, padded with zeros to `length` octets, or as long as it is if that is more.
    #[must_use]
    pub(crate) fn encode(&self, length: usize) -> Zeroizing<Vec<u8>> {
        let length = length.max(self.payload_len());
        let mut octets = Zeroizing::new(Vec::with_capacity(length));
        self.encode_head(&mut octets);
        match &self.act {
            Act::Open { services, .. } | Act::Close { services, .. } => encode_services(services, &mut octets),
            Act::Enroll(enrollment) => encode_enrollment(enrollment, &mut octets),
        }
        octets.resize(length, 0);
        octets
    }

    fn encode_head(&self, out: &mut Vec<u8>) {
        let (kind, address, duration_s) = match &self.act {
            Act::Open {
                address, duration_s, ..
            } => (KIND_OPEN, *address, *duration_s),
            Act::Close { address, .. } => (KIND_CLOSE, *address, 0),
            Act::Enroll(_) => (KIND_ENROLL, Address::AsSeen, 0),
        };
        let (form, field) = encode_address(address);
        out.extend([kind, form, 0, 0]);
        out.extend(duration_s.to_be_bytes());
        out.extend(self.timestamp.as_nanos().to_be_bytes());
        out.extend(field);
        out.extend(self.code.map_or(NO_CODE, Code::number).to_be_bytes());
    }

    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] for everything that does not encode to the same octets again.
    pub fn decode(octets: &[u8]) -> Result<Self, PayloadError> {
        let mut input = Reader(octets);
        let [kind] = input.array()?;
        let [form] = input.array()?;
        if input.array()? != [0, 0] {
            return Err(PayloadError::Reserved);
        }
        let duration_s = u32::from_be_bytes(input.array()?);
        let timestamp = UnixTime::from_nanos(u64::from_be_bytes(input.array()?));
        let address = decode_address(form, input.array()?)?;
        let code = decode_code(u32::from_be_bytes(input.array()?))?;
        let act = decode_body(kind, address, duration_s, &mut input)?;
        if input.0.iter().any(|octet| *octet != 0) {
            return Err(PayloadError::Padding);
        }
        Ok(Self { timestamp, code, act })
    }
}

fn encode_address(address: Address) -> (u8, [u8; 16]) {
    let mut field = [0; 16];
    match address.named() {
        None => (FORM_AS_SEEN, field),
        Some(IpAddr::V4(v4)) => {
            field[..4].copy_from_slice(&v4.octets());
            (FORM_IPV4, field)
        }
        Some(IpAddr::V6(v6)) => (FORM_IPV6, v6.octets()),
    }
}

fn encode_services(services: &Services, out: &mut Vec<u8>) {
    out.push(services.len().try_into().unwrap_or(u8::MAX));
    for name in services.iter() {
        out.push(name.as_str().len().try_into().unwrap_or(u8::MAX));
        out.extend(name.as_str().as_bytes());
    }
}

fn encode_enrollment(enrollment: &Enrollment, out: &mut Vec<u8>) {
    out.extend(enrollment.public_key.as_bytes());
    out.extend(enrollment.psk.expose());
    out.push(enrollment.label.as_str().len().try_into().unwrap_or(u8::MAX));
    out.extend(enrollment.label.as_str().as_bytes());
}

fn decode_address(form: u8, field: [u8; 16]) -> Result<Address, PayloadError> {
    match form {
        FORM_AS_SEEN if field == [0; 16] => Ok(Address::AsSeen),
        FORM_IPV4 if field[4..] == [0; 12] => {
            let [a, b, c, d, ..] = field;
            Ok(Address::explicit(IpAddr::from([a, b, c, d]))?)
        }
        // An IPv4-mapped address has one encoding only, and it is the other form.
        FORM_IPV6 if IpAddr::from(field).to_canonical().is_ipv6() => Ok(Address::explicit(IpAddr::from(field))?),
        FORM_AS_SEEN | FORM_IPV4 | FORM_IPV6 => Err(PayloadError::AddressField { form }),
        _ => Err(PayloadError::AddressForm { form }),
    }
}

fn decode_code(field: u32) -> Result<Option<Code>, CodeError> {
    if field == NO_CODE {
        Ok(None)
    } else {
        Code::new(field).map(Some)
    }
}

fn decode_body(kind: u8, address: Address, duration_s: u32, input: &mut Reader<'_>) -> Result<Act, PayloadError> {
    if kind != KIND_OPEN && duration_s != 0 {
        return Err(PayloadError::Duration { kind });
    }
    match kind {
        KIND_OPEN => Ok(Act::Open {
            address,
            duration_s,
            services: decode_services(input)?,
        }),
        KIND_CLOSE => Ok(Act::Close {
            address,
            services: decode_services(input)?,
        }),
        KIND_ENROLL if address == Address::AsSeen => Ok(Act::Enroll(decode_enrollment(input)?)),
        KIND_ENROLL => Err(PayloadError::EnrollAddress),
        _ => Err(PayloadError::Kind { kind }),
    }
}

fn decode_services(input: &mut Reader<'_>) -> Result<Services, PayloadError> {
    let [count] = input.array()?;
    if usize::from(count) > Services::MOST {
        return Err(ServicesError::Count { have: count.into() }.into());
    }
    let names = (0..count).map(|_| decode_service(input)).collect::<Result<_, _>>()?;
    Ok(Services::new(names)?)
}

fn decode_service(input: &mut Reader<'_>) -> Result<ServiceName, PayloadError> {
    let [length] = input.array()?;
    let name = core::str::from_utf8(input.take(length.into())?).map_err(|_| ServiceNameError)?;
    Ok(name.parse()?)
}

fn decode_enrollment(input: &mut Reader<'_>) -> Result<Enrollment, PayloadError> {
    let public_key = PublicKey(input.array()?);
    let psk = Psk::from_bytes(&Zeroizing::new(input.array()?));
    let [length] = input.array()?;
    let label: Label = core::str::from_utf8(input.take(length.into())?)
        .map_err(|_| PayloadError::LabelUtf8)?
        .parse()?;
    Ok(Enrollment { public_key, psk, label })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], PayloadError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(PayloadError::Cut)?;
        self.0 = rest;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PayloadError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(PayloadError::Cut)?;
        self.0 = rest;
        Ok(head)
    }
}

/// A payload that is not the canonical encoding of a request (step 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// It ends before its last field does.
    Cut,
    /// The kind is none of open, close and enroll.
    Kind {
        /// The octet found.
        kind: u8,
    },
    /// The address form is none of 0, 4 and 6.
    AddressForm {
        /// The octet found.
        form: u8,
    },
    /// The address field holds more than its form says, or an IPv4-mapped address in form 6.
    AddressField {
        /// The address form.
        form: u8,
    },
    /// The address is nobody's.
    Address(AddressError),
    /// A reserved octet is not zero.
    Reserved,
    /// A duration where none may be.
    Duration {
        /// The kind it stands in.
        kind: u8,
    },
    /// A one-time code of more than 8 digits.
    Code,
    /// A service's name is not one.
    ServiceName,
    /// None, too many, or one twice.
    Services(ServicesError),
    /// An enroll that names an address.
    EnrollAddress,
    /// A label that is not UTF-8.
    LabelUtf8,
    /// A label that hides something or is too long.
    Label(LabelError),
    /// A padding octet is not zero.
    Padding,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the payload is cut short"),
            Self::Kind { kind } => write!(f, "kind {kind} is not known"),
            Self::AddressForm { form } => write!(f, "address form {form} is not known"),
            Self::AddressField { form } => write!(f, "the address field does not fit form {form}"),
            Self::Address(error) => error.fmt(f),
            Self::Reserved => f.write_str("a reserved octet is not zero"),
            Self::Duration { kind } => write!(f, "a duration in a request of kind {kind}"),
            Self::Code => CodeError.fmt(f),
            Self::ServiceName => f.write_str("a service name that is none"),
            Self::Services(error) => error.fmt(f),
            Self::EnrollAddress => f.write_str("an enroll that names an address"),
            Self::LabelUtf8 => f.write_str("a label that is not UTF-8"),
            Self::Label(error) => error.fmt(f),
            Self::Padding => f.write_str("padding that is not zero"),
        }
    }
}

impl core::error::Error for PayloadError {}

impl From<AddressError> for PayloadError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<CodeError> for PayloadError {
    fn from(_: CodeError) -> Self {
        Self::Code
    }
}

impl From<ServiceNameError> for PayloadError {
    fn from(_: ServiceNameError) -> Self {
        Self::ServiceName
    }
}

impl From<ServicesError> for PayloadError {
    fn from(error: ServicesError) -> Self {
        Self::Services(error)
    }
}

impl From<LabelError> for PayloadError {
    fn from(error: LabelError) -> Self {
        Self::Label(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn close() -> (Request, Vec<u8>) {
        let request = Request {
            timestamp: UnixTime::from_nanos(0x0102_0304_0506_0708),
            code: Some(Code::new(99_999_999).unwrap()),
            act: Act::Close {
                address: Address::explicit("192.0.2.1".parse().unwrap()).unwrap(),
                services: Services::new(vec!["a".parse().unwrap(), "tcp/22".parse().unwrap()]).unwrap(),
            },
        };
        let mut octets = vec![2, 4, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 192, 0, 2, 1];
        octets.extend([0; 12]);
        octets.extend([0x05, 0xf5, 0xe0, 0xff, 2, 1, b'a', 6]);
        octets.extend(b"tcp/22\0\0\0");
        (request, octets)
    }

    #[test]
    fn layout() {
        let (request, octets) = close();
        assert_eq!(request.payload_len(), octets.len() - 3);
        assert_eq!(*request.encode(octets.len()), octets);
        assert_eq!(Request::decode(&octets), Ok(request));
    }

    #[test]
    fn every_cut_is_refused() {
        let (request, octets) = close();
        for length in 0..request.payload_len() {
            assert_eq!(Request::decode(&octets[..length]), Err(PayloadError::Cut), "{length}");
        }
    }

    proptest::proptest! {
        /// What decodes at all encodes to the octets it came from: there is one encoding only.
        #[test]
        fn canonical(position in 0usize..50, octet: u8, tail in proptest::collection::vec(0u8..3, 0..40)) {
            let (_, mut octets) = close();
            octets.extend(tail);
            if let Some(place) = octets.get_mut(position) {
                *place = octet;
            }
            if let Ok(request) = Request::decode(&octets) {
                proptest::prop_assert_eq!(&*request.encode(octets.len()), &octets);
            }
        }
    }
}
