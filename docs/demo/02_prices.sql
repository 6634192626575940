-- Products, taxes, meters and price books
SET SESSION AUTHORIZATION piet;
\o /dev/null
SELECT billing.add_tax_code('nimbus', 'sales', 'S', 'Texas sales tax'),
	billing.add_tax_code('nimbus', 'abroad', 'G', 'Customer abroad', 'Service exported, no sales tax due'),
	billing.add_tax_code('quillwerk', 'vat', 'S', 'German VAT'),
	billing.add_tax_code('quillwerk', 'reverse', 'AE', 'Reverse charge', 'Reverse charge: VAT is due from the recipient (Art. 196 Directive 2006/112/EC)'),
	billing.add_tax_code('tsubame', 'ct', 'S', 'Consumption tax');
SELECT billing.add_tax_rate('nimbus', 'sales', 8.25, '2020-01-01'), billing.add_tax_rate('nimbus', 'abroad', 0, '2020-01-01'),
	billing.add_tax_rate('quillwerk', 'vat', 19, '2021-01-01'), billing.add_tax_rate('quillwerk', 'reverse', 0, '2021-01-01'),
	billing.add_tax_rate('tsubame', 'ct', 10, '2019-10-01');

-- Nimbus: storage, transfer and requests by published tiers, support as a share of nothing but its own price
SELECT billing.add_product('nimbus', 'storage', 'Object storage, GB-month', 'E34', 'sales'),
	billing.add_product('nimbus', 'transfer', 'Data transfer out, GB', 'E34', 'sales'),
	billing.add_product('nimbus', 'requests', 'Requests', 'C62', 'sales'),
	billing.add_product('nimbus', 'support', 'Business support', 'MON', 'sales');
SELECT billing.add_meter('nimbus', 'storage.gb_month', 'Stored, GB-months'), billing.add_meter('nimbus', 'transfer.gb', 'Transferred, GB'),
	billing.add_meter('nimbus', 'requests', 'Requests');
SELECT billing.add_price_book('nimbus', 'public', 'Public prices', 'USD');
SELECT billing.set_price('nimbus', 'public', 'storage', '{"model":"graduated","tiers":[
		{"up_to":51200,"unit":"0.023"},{"up_to":512000,"unit":"0.022"},{"up_to":null,"unit":"0.021"}]}', '2026-01-01'),
	billing.set_price('nimbus', 'public', 'transfer', '{"model":"graduated","free_units":100,"tiers":[
		{"up_to":10240,"unit":"0.09"},{"up_to":51200,"unit":"0.085"},{"up_to":153600,"unit":"0.07"},{"up_to":null,"unit":"0.05"}]}', '2026-01-01'),
	billing.set_price('nimbus', 'public', 'requests', '{"model":"per_unit","unit":"0.0000004"}', '2026-01-01'),
	billing.set_price('nimbus', 'public', 'support', '{"model":"per_unit","unit":"100"}', '2026-01-01');

-- Quillwerk: seats by volume, a yearly plan in advance, calls beyond an allowance in packages, storage in steps
SELECT billing.add_product('quillwerk', 'seat', 'Team seat', 'C62', 'vat'), billing.add_product('quillwerk', 'plan', 'Annual plan', 'ANN', 'vat'),
	billing.add_product('quillwerk', 'setup', 'Onboarding', 'C62', 'vat'), billing.add_product('quillwerk', 'calls', 'API calls', 'C62', 'vat'),
	billing.add_product('quillwerk', 'export', 'Exports', 'C62', 'vat');
SELECT billing.add_meter('quillwerk', 'api.calls', 'API calls', value_field => 'calls'),
	billing.add_meter('quillwerk', 'export.done', 'Exports', 'count');
SELECT billing.add_price_book('quillwerk', 'list', 'List prices', 'EUR'), billing.add_price_book('quillwerk', 'partner', 'Partner prices', 'EUR');
SELECT billing.set_price('quillwerk', 'list', 'seat', '{"model":"volume","tiers":[
		{"up_to":10,"unit":"12.50"},{"up_to":50,"unit":"11"},{"up_to":null,"unit":"9.75"}]}', '2026-01-01'),
	billing.set_price('quillwerk', 'list', 'plan', '{"model":"per_unit","unit":"4800"}', '2026-01-01'),
	billing.set_price('quillwerk', 'list', 'setup', '{"model":"per_unit","unit":"490"}', '2026-01-01'),
	billing.set_price('quillwerk', 'list', 'calls', '{"model":"package","package_size":1000,"package_price":"0.85","free_units":50000}', '2026-01-01'),
	billing.set_price('quillwerk', 'list', 'export', '{"model":"stairstep","tiers":[
		{"up_to":10,"flat":"0"},{"up_to":40,"flat":"25"},{"up_to":null,"flat":"79"}]}', '2026-01-01'),
	billing.set_price('quillwerk', 'partner', 'seat', '{"model":"per_unit","unit":"8.125"}', '2026-01-01');

-- Tsubame: a price per parcel by volume, per kilogram by weight, a fuel surcharge in per cent of the freight, warehouse space
SELECT billing.add_product('tsubame', 'parcel', 'Parcel delivery', 'C62', 'ct'), billing.add_product('tsubame', 'weight', 'Weight', 'KGM', 'ct'),
	billing.add_product('tsubame', 'fuel', 'Fuel surcharge', 'P1', 'ct'), billing.add_product('tsubame', 'warehouse', 'Warehouse space', 'MTK');
SELECT billing.add_meter('tsubame', 'parcel.delivered', 'Parcels delivered', 'count'), billing.add_meter('tsubame', 'parcel.weight', 'Weight in kg', value_field => 'kg'),
	billing.add_meter('tsubame', 'freight.charged', 'Freight in yen', value_field => 'yen');
SELECT billing.add_price_book('tsubame', 'domestic', 'Domestic freight', 'JPY');
SELECT billing.set_price('tsubame', 'domestic', 'parcel', '{"model":"volume","tiers":[
		{"up_to":100,"unit":"640"},{"up_to":200,"unit":"590"},{"up_to":null,"unit":"545"}]}', '2026-04-01'),
	billing.set_price('tsubame', 'domestic', 'weight', '{"model":"graduated","tiers":[
		{"up_to":500,"unit":"38"},{"up_to":2000,"unit":"31.5"},{"up_to":null,"unit":"27"}]}', '2026-04-01'),
	billing.set_price('tsubame', 'domestic', 'fuel', '{"model":"percentage","rate":"12.5"}', '2026-04-01'),
	billing.set_price('tsubame', 'domestic', 'warehouse', '{"model":"per_unit","unit":"1450","minimum":"20000"}', '2026-04-01');
\o

\pset footer off
\echo 'What 10, 1 000 and 100 000 units cost, before rounding:'
SELECT b.code AS book, p.code AS product, x.tariff::jsonb ->> 'model' AS model, b.currency,
	billing.rate(x.tariff, 10) AS "10", billing.rate(x.tariff, 1000) AS "1 000", billing.rate(x.tariff, 100000) AS "100 000"
FROM billing.price x JOIN billing.price_book b USING (entity_id, price_book_id) JOIN billing.product p USING (entity_id, product_id)
ORDER BY b.entity_id, x.price_id;
