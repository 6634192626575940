/*
 * rating_book.c
 *		Which price of a book holds for a product on a day, for many that ask the
 *		same: the prices of a product are read once.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "core/scan.h"
#include "rating/rating.h"
#include "utils/hsearch.h"

/* A price, from a day to before another. */
typedef struct Price
{
	DateADT valid_from;
	DateADT valid_to;
	Datum tariff;
} Price;

/* What a product is priced by; no bytes but these, so that they can be hashed. */
typedef struct ProductKey
{
	int64 price_book_id;
	int64 product_id;
} ProductKey;

/* The prices of a product in a book. */
typedef struct ProductPrices
{
	ProductKey key;
	int count;
	int size;
	Price *prices;
} ProductPrices;

struct BillingPrices
{
	int32 entity_id;
	MemoryContext context;
	BillingScan scan;
	HTAB *products;
};

enum
{
	PRICE_FROM,
	PRICE_TO,
	PRICE_TARIFF
};
static const char *const price_columns[] = { "valid_from", "valid_to", "tariff" };

/* Begin to look prices up, in a snapshot and the current memory context. */
BillingPrices *
billing_rating_open_prices(int32 entity_id, Snapshot snapshot)
{
	BillingPrices *prices = palloc0(sizeof(BillingPrices));
	HASHCTL control = { 0 };

	prices->entity_id = entity_id;
	prices->context = CurrentMemoryContext;
	control.keysize = sizeof(ProductKey);
	control.entrysize = sizeof(ProductPrices);
	control.hcxt = CurrentMemoryContext;
	prices->products = hash_create("prices", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	billing_core_scan_open(&prices->scan, "price", "price_by_product", 3, false, price_columns,
						   lengthof(price_columns), snapshot);
	return prices;
}

/* Read the prices of a product in a book. */
static void
read_prices(BillingPrices *prices, ProductPrices *product)
{
	BillingScan *scan = &prices->scan;
	Datum keys[3] = { Int32GetDatum(prices->entity_id), Int64GetDatum(product->key.price_book_id),
					  Int64GetDatum(product->key.product_id) };

	product->count = 0;
	product->size = 4;
	product->prices = palloc(sizeof(Price) * product->size);
	billing_core_scan_find(scan, keys);
	while (billing_core_scan_next(scan))
	{
		Price *price;

		if (product->count == product->size)
		{
			product->size *= 2;
			product->prices = repalloc(product->prices, sizeof(Price) * product->size);
		}
		price = &product->prices[product->count++];
		price->valid_from = DatumGetDateADT(billing_scan_value(scan, PRICE_FROM));
		price->valid_to = billing_scan_isnull(scan, PRICE_TO)
							  ? DATEVAL_NOEND
							  : DatumGetDateADT(billing_scan_value(scan, PRICE_TO));
		price->tariff =
			PointerGetDatum(PG_DETOAST_DATUM_COPY(billing_scan_value(scan, PRICE_TARIFF)));
	}
}

/* The tariff of a product in a book on a day; 0 where there is none. */
Datum
billing_rating_price_on(BillingPrices *prices, int64 price_book_id, int64 product_id, DateADT day)
{
	ProductKey key = { price_book_id, product_id };
	ProductPrices *product;
	bool found;
	int i;

	product = hash_search(prices->products, &key, HASH_ENTER, &found);
	if (!found)
	{
		MemoryContext caller = MemoryContextSwitchTo(prices->context);

		read_prices(prices, product);
		MemoryContextSwitchTo(caller);
	}
	for (i = 0; i < product->count; i++)
	{
		if (product->prices[i].valid_from <= day && day < product->prices[i].valid_to)
			return product->prices[i].tariff;
	}
	return (Datum) 0;
}

/* End it; the tariffs stay as long as the memory context. */
void
billing_rating_close_prices(BillingPrices *prices)
{
	billing_core_scan_close(&prices->scan);
	hash_destroy(prices->products);
}
