"""Every way to make a Hessian-vector product, one file each; `registry` lists them."""
