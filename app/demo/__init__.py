"""The demonstration: a shop that does not exist, its catalogue as Magento would index it, and a tour that uses it.

`catalogue` makes products, `load` plays the shop's indexer, `flow` is what `reshelve demo` does. Nothing in the
service imports this package.
"""
