-- How many certificates of one principal are revoked is asked at each revocation.
CREATE INDEX revoked_certificate_principal ON revoked_certificate (principal);
