//! What particular firmware needs, in one table: device, symptom, source, remedy, test. Nothing about a device stands elsewhere.
