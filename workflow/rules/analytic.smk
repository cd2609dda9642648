rule bounds_analytic:
    """Tests 1 and 2: all bounds, and the exact constant, of one family at all its levels."""
    input:
        modules=modules("bounds_analytic", BOUNDS),
    output:
        table=f"{RESULTS}/analytic/{{family}}.csv",
    log:
        f"{RESULTS}/logs/analytic/{{family}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/analytic/{{family}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        levels=lambda wildcards: FAMILIES[wildcards.family],
        options=config["analytic"]["options"],
        bounds=BOUNDS,
        norms=NORMS,
    script:
        "../scripts/bounds_analytic.py"
