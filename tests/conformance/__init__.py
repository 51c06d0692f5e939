"""What a store must do, checked on any store: `scripts/test tests/conformance --store mypackage.mymodule:MyPlace`."""
