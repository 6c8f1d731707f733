//! Tests of the closed lists and of narrowing: no source may widen, and both sources must agree.
#![allow(clippy::unwrap_used)]

use super::*;

fn project() -> Labels {
    Labels {
        class: DataClass::Internal,
        purposes: [Purpose::Finance, Purpose::Research].into(),
        countries: None,
        language: None,
    }
}

#[test]
fn every_text_names_its_value() {
    fn check<T: Closed + std::fmt::Debug + Serialize>() {
        for value in T::all() {
            assert_eq!(T::parse(value.as_str()).unwrap(), value);
            assert_eq!(serde_json::to_value(value).unwrap(), value.as_str());
        }
    }
    check::<DataClass>();
    check::<Purpose>();
    check::<Language>();
    check::<Action>();
    check::<Country>();
    assert_eq!(Country::all().len(), 249);
    assert!(Purpose::parse("leisure").unwrap_err().to_string().contains("research, industry"));
}

#[test]
fn class_moves_upwards_only() {
    let up = Asked { class: Some(DataClass::Restricted), ..Asked::default() };
    assert_eq!(project().narrow(&up).unwrap().class, DataClass::Restricted);
    let down = Asked { class: Some(DataClass::Public), ..Asked::default() };
    assert!(matches!(project().narrow(&down), Err(LabelError::Widens { label: "class", .. })));
}

#[test]
fn sources_are_intersected() {
    let finance = Asked { purposes: Some([Purpose::Finance].into()), ..Asked::default() };
    let research = Asked { purposes: Some([Purpose::Research].into()), ..Asked::default() };
    assert_eq!(project().narrow_all(std::slice::from_ref(&finance)).unwrap().purposes, [Purpose::Finance].into());
    assert!(matches!(project().narrow_all(&[finance, research]), Err(LabelError::Empty { .. })));
    let foreign = Asked { purposes: Some([Purpose::Defence].into()), ..Asked::default() };
    assert!(matches!(project().narrow_all(&[foreign]), Err(LabelError::Widens { .. })));
}

#[test]
fn countries_narrow_to_a_subset() {
    let fr = Country::parse("FR").unwrap();
    let de = Country::parse("DE").unwrap();
    let asked = Asked { countries: Some([fr].into()), ..Asked::default() };
    assert_eq!(project().narrow(&asked).unwrap().countries, Some([fr].into()));
    let bound = Labels { countries: Some([de].into()), ..project() };
    assert!(bound.narrow(&asked).is_err());
}
