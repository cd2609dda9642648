rule collect:
    """One test's table, from the tables of its jobs."""
    input:
        tables=lambda wildcards: PARTS[wildcards.test],
        modules=MODULES["collect"],
    output:
        table=f"{RESULTS}/tables/{{test}}.csv",
    log:
        f"{RESULTS}/logs/tables/{{test}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/collect.py"


rule collect_all:
    """The one table of all tests."""
    input:
        tables=TEST_TABLES,
        modules=MODULES["collect"],
    output:
        table=f"{RESULTS}/tables/all.csv",
    log:
        f"{RESULTS}/logs/tables/all.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/collect.py"


rule table_relations:
    """Test 3 in numbers: how the bounds relate in each cell, and whether the theorems hold."""
    input:
        table=f"{RESULTS}/tables/test3.csv",
        modules=MODULES["table_relations"],
    output:
        csv=f"{RESULTS}/tables/test3_relations.csv",
        md=f"{RESULTS}/tables/test3_relations.md",
        html=report(
            f"{RESULTS}/tables/test3_relations.html",
            caption="../report/test3_relations.rst",
            category=CATEGORIES["test3"],
            labels={"what": "table: relations of the bounds"},
        ),
    log:
        f"{RESULTS}/logs/tables/test3_relations.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/table_relations.py"


rule table_paper:
    """Test 4 as the paper would print it."""
    input:
        table=f"{RESULTS}/tables/test4.csv",
        modules=MODULES["table_paper"],
    output:
        csv=f"{RESULTS}/tables/test4_paper.csv",
        md=f"{RESULTS}/tables/test4_paper.md",
        tex=f"{RESULTS}/tables/test4_paper.tex",
        html=report(
            f"{RESULTS}/tables/test4_paper.html",
            caption="../report/test4_paper.rst",
            category=CATEGORIES["test4"],
            labels={"what": "table: bounds of the CNNs"},
        ),
    log:
        f"{RESULTS}/logs/tables/test4_paper.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/table_paper.py"


rule table_comparison:
    """Test 5 in one table: a row per network and norm, from lower bound to upper bounds."""
    input:
        table=f"{RESULTS}/tables/test5.csv",
        modules=MODULES["table_comparison"],
    output:
        csv=f"{RESULTS}/tables/test5_comparison.csv",
        md=f"{RESULTS}/tables/test5_comparison.md",
        tex=f"{RESULTS}/tables/test5_comparison.tex",
        html=report(
            f"{RESULTS}/tables/test5_comparison.html",
            caption="../report/test5_comparison.rst",
            category=CATEGORIES["test5"],
            labels={"what": "table: all methods beside the truth"},
        ),
    log:
        f"{RESULTS}/logs/tables/test5_comparison.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/table_comparison.py"
