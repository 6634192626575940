--
-- Rating: a tariff says what a quantity costs.
--
-- A tariff is written as JSON, checked when it is written, and kept compiled;
-- its text is canonical. Prices are strings, so that no reader spoils them.
SELECT '{"unit": 0.0500, "model": "per_unit"}'::billing.tariff;
SELECT billing.rate('{"model": "per_unit", "unit": "0.05"}', 1234);

-- Amounts are exact and not rounded: that is done once, on the invoice line.
SELECT billing.rate('{"model": "per_unit", "unit": "0.000016666700"}', 0.00200749);

-- Every model at the same quantities.
CREATE TEMPORARY TABLE price (model text, tariff billing.tariff);
INSERT INTO price VALUES
    ('graduated', '{"model": "graduated", "tiers": [
        {"up_to": 1000, "unit": "0.10", "flat": "2"}, {"up_to": null, "unit": "0.01"}]}'),
    ('volume', '{"model": "volume", "tiers": [
        {"up_to": 1000, "unit": "0.10", "flat": "2"}, {"up_to": null, "unit": "0.01"}]}'),
    ('stairstep', '{"model": "stairstep", "tiers": [
        {"up_to": 1000, "flat": "100"}, {"up_to": null, "flat": "150"}]}'),
    ('package', '{"model": "package", "package_size": 100, "package_price": "5"}'),
    ('percentage', '{"model": "percentage", "rate": "2.9", "fixed": "0.30"}'),
    ('graduated_percentage', '{"model": "graduated_percentage", "tiers": [
        {"up_to": 1000, "rate": "1", "flat": "200"}, {"up_to": null, "rate": "0.5"}]}'),
    ('dynamic', '{"model": "dynamic"}'),
    ('started blocks', '{"model": "graduated", "tiers": [
        {"up_to": 1000, "block": 100, "unit": "1"}, {"up_to": null, "block": 1000, "unit": "5"}]}');
SELECT
    model,
    billing.rate(tariff, 0) AS "0",
    billing.rate(tariff, 1) AS "1",
    billing.rate(tariff, 1000) AS "1000",
    billing.rate(tariff, 1000.5) AS "1000.5",
    billing.rate(tariff, 2500) AS "2500"
FROM price;

-- How an amount comes about: the rows sum to it.
SELECT tier, from_quantity, up_to, quantity_rated, unit_price, flat, amount, note
FROM billing.rate_breakdown('{"model": "graduated", "free_units": 100, "minimum": "150", "tiers": [
    {"up_to": 1000, "unit": "0.10", "flat": "2"}, {"up_to": null, "unit": "0.01"}]}', 2600);

-- A matrix picks a tariff by the dimensions of what was used.
CREATE TEMPORARY TABLE transfer AS
SELECT '{"model": "matrix", "dimensions": ["region", "class"],
    "cells": [
        {"match": {"region": "eu", "class": "cold"}, "tariff": {"model": "per_unit", "unit": "0.02"}},
        {"match": {"region": "eu"}, "tariff": {"model": "per_unit", "unit": "0.05"}}],
    "default": {"model": "per_unit", "unit": "0.09"}}'::billing.tariff AS tariff;
SELECT dimensions, billing.rate(tariff, 100, dimensions)
FROM transfer, (VALUES ('{"region": "eu", "class": "cold"}'::jsonb), ('{"region": "eu"}'), ('{"region": "us"}')) d (dimensions);

-- Where a tariff bounds what one event costs, the events are rated one by one.
SELECT billing.rate('{"model": "percentage", "rate": "2.9", "event_min": "1.75", "event_max": "12"}', 1110, 3);
SELECT billing.rate_events('{"model": "percentage", "rate": "2.9", "event_min": "1.75", "event_max": "12"}', amount)
FROM (VALUES (10::numeric), (100), (1000)) payment (amount);

-- A correction is negative. A price per unit has an amount for it, tiers do not.
SELECT billing.rate('{"model": "per_unit", "unit": "0.05"}', -3);
SELECT billing.rate(tariff, -3) FROM price WHERE model = 'graduated';

-- A tariff that is none is refused, naming the field.
SELECT '{"model": "graduated", "tiers": [{"up_to": 1000, "unit": "0.10"}, {"up_to": 500, "unit": "0.05"}]}'::billing.tariff;
SELECT jsonb_build_object('model', 'package', 'package_size', -100, 'package_price', 5)::billing.tariff;

-- Tariffs compare by what they say, not how it is written.
SELECT DISTINCT tariff
FROM (VALUES ('{"model": "per_unit", "unit": 0.10}'::billing.tariff), ('{"unit": "0.1", "model": "per_unit"}')) t (tariff);
